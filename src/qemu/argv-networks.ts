/** The network options of a QEMU command line of others. Pure. Source: qemu-system(1), "Network options". */
import { ANY_ADDRESS, type HostForward } from '../api/networks.ts';
import { type Remarks, remarkKeys } from './argv-remarks.ts';
import { KeyValues, type OptionWord } from './option-words.ts';

export interface ForeignNetwork {
  readonly mac: string;
  /** Absent: user-mode. */
  readonly bridge?: string;
  readonly forwards: readonly HostForward[];
}

type Backend = Omit<ForeignNetwork, 'mac'>;

interface Card {
  readonly mac?: string;
  /** id of its netdev; undefined: it brought its own. */
  readonly netdev?: string;
  readonly backend?: Backend;
}

const NIC_DEVICE = /^(virtio-net|e1000|rtl8139|vmxnet3|ne2k|pcnet|i8255|igb|usb-net|tulip)/;
const OUR_MODEL = /^(virtio|virtio-net-pci|virtio-net)$/;
const BACKEND_KEYS = ['type', 'id', 'br', 'hostfwd', 'helper', 'mac', 'macaddr', 'model', 'name', 'netdev'];

/** undefined where none of the options speaks of networks. */
export function networksOf(options: readonly OptionWord[], remarks: Remarks): ForeignNetwork[] | undefined {
  const mine = options.filter(({ name }) => ['-nic', '-net', '-netdev'].includes(name));
  const devices = options
    .filter(({ name }) => name === '-device')
    .map(({ value }) => new KeyValues(value, 'driver'))
    .filter((device) => isNic(device));
  if (mine.length === 0 && devices.length === 0) return undefined;
  const backends = new Map<string, Backend | undefined>();
  const cards: Card[] = [];
  for (const { name, value } of mine) {
    const words = new KeyValues(value, 'type');
    if (name === '-netdev') backends.set(words.get('id') ?? '', backendOf(name, words, remarks));
    else if (name === '-nic') cards.push(...cardOf(name, words, remarks));
  }
  cards.push(...legacyCards(mine, remarks));
  for (const device of devices) {
    const driver = device.get('driver') ?? '';
    if (!/^virtio-net/.test(driver))
      remarks.warn('-device: its network card becomes virtio-net: the guest needs that driver');
    const netdev = device.get('netdev');
    if (netdev === undefined) remarks.warn('-device: a network card without a netdev is left out');
    else cards.push({ netdev, ...macOf(device) });
  }
  return withAddresses(cards, backends);
}

export function isNic(device: KeyValues): boolean {
  return NIC_DEVICE.test(device.get('driver') ?? '');
}

function macOf(words: KeyValues): { mac?: string } {
  const mac = words.get('mac', 'macaddr')?.toLowerCase();
  return mac !== undefined && /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) ? { mac } : {};
}

function cardOf(name: string, words: KeyValues, remarks: Remarks): Card[] {
  if (words.get('type') === 'none') return [];
  const model = words.get('model');
  if (model === undefined || !OUR_MODEL.test(model))
    remarks.warn(`${name}: its network card becomes virtio-net: the guest needs that driver`);
  const backend = backendOf(name, words, remarks);
  return backend === undefined ? [] : [{ backend, ...macOf(words) }];
}

/** `-net nic -net user`: all of them are joined by one hub. */
function legacyCards(mine: readonly OptionWord[], remarks: Remarks): Card[] {
  const words = mine.filter(({ name }) => name === '-net').map(({ value }) => new KeyValues(value, 'type'));
  const nics = words.filter((one) => one.get('type') === 'nic');
  const others = words.filter((one) => !['nic', 'none'].includes(one.get('type') ?? ''));
  const [backend] = others.flatMap((one) => backendOf('-net', one, remarks) ?? []);
  if (others.length > 1) remarks.warn('-net: several networks on one hub: only the first is kept');
  return nics.flatMap((nic): Card[] => {
    const netdev = nic.get('netdev');
    if (netdev !== undefined) return [{ netdev, ...macOf(nic) }];
    return backend === undefined ? [] : [{ backend, ...macOf(nic) }];
  });
}

function backendOf(option: string, words: KeyValues, remarks: Remarks): Backend | undefined {
  const type = words.get('type');
  const bridge = words.get('br');
  remarkKeys(remarks, option, words, BACKEND_KEYS.concat(['ifname', 'script', 'downscript', 'vhost', 'queues']));
  switch (type) {
    case 'user':
      return { forwards: words.all('hostfwd').flatMap((rule) => forwardOf(option, rule, remarks)) };
    case 'bridge':
      return { bridge: bridge ?? 'br0', forwards: [] };
    case 'tap':
      if (bridge !== undefined) return { bridge, forwards: [] };
      remarks.warn(
        `${option}: a tap interface does not say its bridge: the network is left out, add it with bridge.name`,
      );
      return undefined;
    default:
      remarks.warn(`${option}: a network that is neither user, bridge nor tap is left out`);
      return undefined;
  }
}

/** `tcp:127.0.0.1:2222-:22` */
function forwardOf(option: string, rule: string, remarks: Remarks): HostForward[] {
  const [, protocol = 'tcp', hostAddress = '', hostPort, guestAddress = '', guestPort] =
    /^(?:(tcp|udp)?:)?(?:([0-9.]*):)?(\d{1,5})-(?:([0-9.]*):)?(\d{1,5})$/.exec(rule) ?? [];
  if (guestPort === undefined || !['', '10.0.2.15'].includes(guestAddress)) {
    remarks.warn(`${option}: a hostfwd that is not understood is left out`);
    return [];
  }
  return [
    {
      protocol: protocol === 'udp' ? 'UDP' : 'TCP',
      hostAddress: hostAddress === '' ? ANY_ADDRESS : hostAddress,
      ...(Number(hostPort) === 0 ? {} : { hostPort: Number(hostPort) }),
      guestPort: Number(guestPort),
    },
  ];
}

/** What has no address gets QEMU's own, in order, as the guest knows it. Source: net/net.c. */
function withAddresses(cards: readonly Card[], backends: ReadonlyMap<string, Backend | undefined>): ForeignNetwork[] {
  const used = new Set(cards.map(({ mac }) => mac));
  let last = 0x56;
  const next = () => {
    for (; ; last = (last + 1) % 0x100) {
      const mac = `52:54:00:12:34:${last.toString(16).padStart(2, '0')}`;
      if (!used.has(mac)) {
        used.add(mac);
        return mac;
      }
      if (used.size > 0xff) return mac;
    }
  };
  return cards.flatMap(({ mac, netdev, backend }) => {
    const address = mac ?? next();
    const found = backend ?? backends.get(netdev ?? '');
    return found === undefined ? [] : [{ mac: address, ...found }];
  });
}
