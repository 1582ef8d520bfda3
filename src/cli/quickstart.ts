export const declareQuickstart = () => undefined;
