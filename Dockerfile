# The operator of a cluster: docs/operations/kubernetes.md. It needs no QEMU, no SSH client and no rights on its node.
#
#   docker build --tag qemu-operator:0.1.0 .
#
# The steps are those of src/setup/assemble-image.sh, which the tests run without a container engine.
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY . .
RUN src/setup/assemble-image.sh /out

FROM node:24.21.0-bookworm-slim
COPY --from=build /out/ /
# Numeric, so that a kubelet can see that it is not root.
USER 65532:65532
ENV HOME=/tmp
ENTRYPOINT ["qemu-operator"]
CMD ["run", "--store", "kubernetes"]
