/** Chinese. Where the original specification gives a sentence, it stands here word for word. */
import { caveatsZh, fatesZh, whysZh } from './foreseen-zh.ts';
import type { Sentences } from './sentences.ts';
import { zhReasons } from './zh-reasons.ts';

const LISTED = { running: '运行中', stopped: '已停止', all: '' } as const;
const STATES = { running: '运行中', stopped: '已停止' } as const;
const KEPT = {
  existed: '文件在创建虚拟机之前已存在',
  Retain: 'reclaimPolicy为Retain',
  foreign: '不是为该虚拟机创建的文件',
  shared: '另一台虚拟机也使用该磁盘',
} as const;

const PLACES: Readonly<Record<string, string | undefined>> = { localhost: '本地', all: '所有主机' };
const place = (host: string) => PLACES[host] ?? host;
/** Ends the sentence. */
const cap = (near: string) => (near === '' ? '。' : `，您是否指${near}？`);

export const zh: Sentences = {
  done: (name, action) => `虚拟机${name} ${action}成功`,
  restartedForModify: (name) => `虚拟机${name} modify成功，虚拟机已重启以使配置生效`,
  already: (name, state) => `虚拟机${name}已处于${STATES[state]}状态，未做任何更改`,
  unfinished: (name, action, phase, why) => `虚拟机${name} ${action}尚未完成，仍在继续（${phase}）：${why}`,
  failed: (name, action, why) => `虚拟机${name} ${action}失败：${why}`,
  listed: (host, status, count) => `成功获取${place(host)}${LISTED[status]}虚拟机，共${count}个`,
  sampled: (name, count) => `成功获取${name} ${count}次采样数据`,
  sampledSoFar: (name, count, wanted) =>
    wanted === 0
      ? `等待时间内获取${name} ${count}次采样数据，再次调用可继续`
      : `等待时间内获取${name} ${count}次采样数据（共需${wanted}次），再次调用可获取其余数据`,
  endedWhileSampled: (name, count) => `虚拟机${name}在监控期间停止，已获取${count}次采样数据`,
  why: (reason, message) => {
    const words = zhReasons[reason];
    return words === undefined ? message : `${words}（${message}）`;
  },
  nobodyWatches: () => '当前由本工具服务运行控制循环：服务结束后虚拟机继续运行，但不再有人看护',
  keptDisk: (why) => KEPT[why],
  timeIsUp: () => '未在wait_seconds内完成',
  planned: (name, action, { changes, process }) =>
    changes.length === 0
      ? `预演：${action}不会对虚拟机${name}做任何更改`
      : `预演：${action}将对虚拟机${name}做${changes.length}处更改${process === undefined ? '' : `；${fatesZh[process]}`}。未写入任何内容`,
  foreseen: (why, detail) => whysZh[why](detail),
  caveat: (caveat) => caveatsZh[caveat],

  unknownArgument: (field, near, allowed) => `${field}：未知参数${cap(near)}可用参数：${allowed}`,
  missingArgument: (field, allowed) => `缺少参数${field}${allowed === '' ? '' : `：${allowed}`}`,
  wrongChoice: ({ field, value, allowed }) => `参数${field}的值${value}无效，可选值：${allowed}`,
  wrongForm: ({ field, value, allowed }) => `参数${field}的值${value}无效，应为：${allowed}`,
  argumentNotFor: (field, action, allowed) =>
    `参数${field}不适用于${action}操作，该操作可用参数：${allowed}；未做任何更改`,
  argumentNeeded: (field, action, allowed) => `${action}操作必须提供参数${field}：${allowed}`,
  alreadyExists: () => '虚拟机已存在',
  beingDeleted: (name) => `虚拟机${name}正在删除`,
  notFound: (name, host, near, known) =>
    `主机${host}上没有虚拟机${name}${cap(near)}${known === '' ? '该主机上没有虚拟机' : `现有虚拟机：${known}`}`,
  unmanagedFolder: (name, folder) => `虚拟机${name}只有目录而没有对象（${folder}）：请先用命令qemu-operator adopt接管`,
  ambiguousNamespace: (name, namespaces) => `多个命名空间存在虚拟机${name}，请用namespace指定：${namespaces}`,
  ambiguousHost: (name, hosts) => `多台主机存在虚拟机${name}，请用host指定：${hosts}`,
  hostNeeded: (hosts) => `请用host指定主机：${hosts}`,
  hostUnknown: (host, hosts) =>
    `主机${host}未注册。已注册主机：${hosts}。访问其他机器请提供其地址、ssh_user以及ssh_key或ssh_pwd`,
  ambiguousAddress: (address, hosts) =>
    `多台已注册主机的地址都是${address}，无法按登录信息区分，请用host指定：${hosts}`,
  hostIsLocal: (host, field) => `${field}：主机${host}就是本机，请勿提供ssh_*参数`,
  loginDiffers: (host, field, command) => `${field}与主机${host}注册的不一致；请勿提供ssh_*参数，或修改：${command}`,
  loginNeeded: (field) => `缺少${field}：未注册的地址需要ssh_user，以及ssh_key或ssh_pwd`,
  keyNotHere: () => 'ssh_key是服务器所在机器上的路径，通过HTTP不接受：请使用ssh_pwd，或请管理员注册主机',
  keyUnreadable: (why) => `ssh_key：必须是本服务器所在机器上的私钥文件：${why}`,
  notLetIn: (address, why) => `无法登录${address}：${why}。未保存任何内容`,
  hostNotReady: (host, why) => `主机${host}无法创建虚拟机：${why}`,
  hostNotSeen: (host) => `尚未获取主机${host}的状态：没有控制器运行或主机无响应，请重试`,
  notRunning: (name, phase) => `虚拟机${name}未运行（${phase}），仅支持监控运行中的虚拟机，请先执行start操作`,
  nothingToChange: (name, current) => `没有需要修改的内容：虚拟机${name}已是${current}`,
  nothingAsked: () => '没有需要修改的内容：modify操作需要memory、vcpus或disk',
  memorySyntax: () => '容量，例如2G或4096M，小于8192T',
  diskSizeSyntax: () => '整数容量，例如20G或512M，从1M到4096T',
  diskSyntax: () => '"path=/data/vm/disk.qcow2,size=20G"，两部分均可省略（路径中的逗号写两次）',
  diskPathNeeded: (paths) => `该虚拟机有多个磁盘，请用path=指定：${paths}`,
  diskUnknown: (path, paths) => `该虚拟机没有磁盘${path}，现有磁盘：${paths}`,
  diskSizeNeeded: () => 'disk：modify操作需要新的大小，如size=40G',
  diskCannotShrink: (path, size) => `磁盘${path}已有${size}，磁盘只能扩容`,
  rawDiskNotGrown: (path, size, bytes) =>
    `磁盘${path}为raw格式，需手动扩容：停止虚拟机，执行 qemu-img resize -f raw '${path}' ${bytes}，然后再次modify，size=${size}`,
  detachedDiskGoes: (paths) => `keep_disks无法保留已从虚拟机移除、将随之删除的磁盘：${paths}，请先将其移走`,
  protectedVm: (name) => `虚拟机${name}受保护：请先移除注解qemu-operator.dev/protected`,
  readOnly: () => '本服务为只读（--read-only），拒绝manage_vm',
  deleteNotAllowed: () => '本服务不允许删除（--no-delete）',
  conflict: (name) => `虚拟机${name}同时被他人修改，未做任何更改，请重试`,
  storeUnavailable: (why) => `存储暂不可用：${why}`,
  internal: (id) => `内部错误${id}，详见服务stderr日志`,
  cursorInvalid: () => '之前结果中的next_cursor；不带此参数则从头列出',
  qemuMissing: (command, packages) => `${command}: command not found，请安装：apt-get install ${packages}`,
  qemuTooOld: (version) => `QEMU ${version}版本过低，需要6.0及以上版本`,
};
