/** Why a foreseen change has its effect, in Chinese. */
import type { Caveat, ProcessFate, Why } from '../api/foreseen.ts';

export const whysZh: Readonly<Record<Why, (detail: string) => string>> = {
  'new-object': () => '新建对象',
  'object-goes': () => '进程和文件移除后删除该对象',
  'disk-goes': () => '文件随虚拟机删除',
  'disk-stays': () => '文件保留',
  'host-assigned': (host) => `将在主机${host}上创建虚拟机`,
  'restarts-now': () => '需要新的QEMU进程：虚拟机将立即重启',
  'waits-for-restart': () => '需要新的QEMU进程：等待下次重启（updateStrategy为OnRestart）',
  'process-has-it': () => '运行中的QEMU进程已是该值',
  'no-process': () => '虚拟机下次启动时生效',
  'no-other-process': () => '无需新的QEMU进程即可生效',
  'secrets-compared': () => '下次检查时比较两个值：若不同则需要新的QEMU进程',
  'disk-grows-live': () => '磁盘在线扩容，客户机继续运行',
  'disk-grows': () => '磁盘立即扩容',
  'disk-is-large-enough': () => '磁盘已不小于该大小',
  'disk-not-made-yet': () => '创建磁盘或首次检查磁盘时生效',
  'raw-by-hand': (command) => `raw磁盘需手动扩容，请在停止虚拟机后执行：${command}`,
  'cannot-shrink': (size) => `磁盘不能缩小，当前为${size}`,
  starts: () => '启动虚拟机',
  'on-already': () => '虚拟机已处于开机状态',
  stops: () => '按spec.powerOff停止虚拟机',
  'off-already': () => '虚拟机已没有进程',
  'restart-asked': () => '请求重启一次：虚拟机将立即重启',
  'next-end': () => 'QEMU进程下次自行结束时生效',
  'next-stop': () => '虚拟机下次停止时生效',
  'next-change': () => '用于之后需要新QEMU进程的更改',
  'at-deletion': () => '删除虚拟机时生效',
  metadata: () => '仅随对象保存，不影响QEMU进程',
  'next-look': () => '下次检查时生效',
  'not-admitted': (words) => words,
};

export const caveatsZh: Readonly<Record<Caveat, string>> = {
  paused: '注解暂停了该虚拟机或其主机：移除注解之前不会发生任何更改',
  stalled: '该虚拟机正等待人工处理，原因见describe；处理之后才会发生上述更改',
  'not-seen-since-last-change': '之前的更改尚未被检查：预测基于较早的状态',
  'host-unreachable': '主机无法访问：恢复之前不会发生任何更改',
  'host-unknown': 'spec.hostName指定的主机不存在：主机存在之前不会发生任何更改',
};

export const fatesZh: Readonly<Record<ProcessFate, string>> = {
  none: '进程不会启动',
  kept: '进程保持不变',
  started: '进程将启动',
  stopped: '进程将停止',
  restarted: '进程将重启',
};
