//! Hundreds of small attempts to reach the host, each in a process of its own: by every system call
//! that the filter refuses, and by every way out that sandboxes once had.
//!
//! An attempt is a line of perl that is true where it has succeeded.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use bake::job::{Action, Job};
use bake::sandbox::{Exec, PolicyFile};

use crate::sandbox_lab::{Lab, Ran, exec};

/// The table of system calls of the sandbox.
const CALLS: &str = include_str!("../../src/sandbox/calls.txt");
/// Calls are probed up to here.
const HIGHEST: u32 = 520;

/// What every probe can use, and the loop that runs them: one line of output for each.
const HARNESS: &str = r#"
our (%n, %h, @probes);
sub sc { my $name = shift; die "no call $name\n" unless exists $n{$name}; my @a = @_; $! = 0; return syscall($n{$name}, @a) >= 0 }
sub io { my ($file, $request, $argument) = @_; return ioctl($file, $request, $argument) }
sub readable { my $f = shift; open(my $h, '<', $f) or return 0; my $got = sysread($h, my $b, 64); return defined $got && $got > 0 }
sub writable { my $f = shift; return open(my $h, '>', $f) ? 1 : 0 }
sub lists { my $d = shift; opendir(my $h, $d) or return 0; return scalar grep { !/^\.\.?$/ } readdir $h }
sub device { my ($type, $major, $minor, $dir) = @_; my $f = "$dir/node$$"; my $made = syscall($n{mknodat}, -100, "$f", ($type eq 'b' ? 0060000 : 0020000) | 0666, ($major << 8) | ($minor & 255)) >= 0;
  my $open = $made && (open(my $h, '<', $f) || open($h, '>', $f)); unlink $f; return $open }
sub status { my ($who, $key) = @_; open(my $h, '<', "/proc/$who/status") or return ''; for (<$h>) { return $1 if /^$key:\s*(.*)$/ } return '' }
sub slurp { my $f = shift; open(my $h, '<', $f) or return ''; local $/; my $t = <$h>; return defined $t ? $t : '' }
sub out_of { my $found = 0; for my $d (@_) { $found ||= -e "$d$h{secret}" } return $found }
$| = 1;
for my $probe (@probes) {
  my ($name, $code) = @$probe;
  pipe(my $r, my $w) or die;
  my $pid = fork; die unless defined $pid;
  if (!$pid) { close $r; alarm 10; my $in = eval $code; my $why = $@; $why =~ s/\n.*//s; syswrite $w, ($why ? "error $why" : $in ? 'IN' : 'out ' . ($!+0)); exec '/bin/true'; }
  close $w; sysread $r, my $read, 200; waitpid $pid, 0; my $signal = $? & 127;
  print "$name\t", (defined $read && length $read ? $read : "signal $signal"), "\n";
}
"#;

/// Attempts that nothing may let through, in groups.
const ATTEMPTS: &[(&str, &[&str])] = &[
    (
        "namespaces",
        &[
            "sc('unshare', 0x00020000)",
            "sc('unshare', 0x04000000)",
            "sc('unshare', 0x08000000)",
            "sc('unshare', 0x10000000)",
            "sc('unshare', 0x20000000)",
            "sc('unshare', 0x40000000)",
            "sc('unshare', 0x02000000)",
            "sc('unshare', 0x00000080)",
            "sc('unshare', 0x10020000)",
            "sc('unshare', 0x00000200)",
            "sc('clone', 0x00020011, 0, 0, 0, 0)",
            "sc('clone', 0x02000011, 0, 0, 0, 0)",
            "sc('clone', 0x04000011, 0, 0, 0, 0)",
            "sc('clone', 0x08000011, 0, 0, 0, 0)",
            "sc('clone', 0x10000011, 0, 0, 0, 0)",
            "sc('clone', 0x20000011, 0, 0, 0, 0)",
            "sc('clone', 0x40000011, 0, 0, 0, 0)",
            "sc('clone', 0x7e020011, 0, 0, 0, 0)",
            "sc('clone3', pack('Q11', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)",
            "sc('clone3', pack('Q11', 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88)",
            "open($f, '<', '/proc/self/ns/mnt') && sc('setns', fileno $f, 0)",
            "open($f, '<', '/proc/self/ns/net') && sc('setns', fileno $f, 0)",
            "open($f, '<', '/proc/self/ns/pid') && sc('setns', fileno $f, 0)",
            "open($f, '<', '/proc/self/ns/user') && sc('setns', fileno $f, 0)",
            "open($f, '<', '/proc/1/ns/mnt')",
            "open($f, '<', '/proc/1/ns/net')",
            "open($f, '<', '/proc/1/ns/pid')",
            "open($f, '<', '/proc/1/ns/user')",
            "readlink('/proc/1/ns/user')",
            "open($f, '<', '/proc/self/ns/user') && io($f, 0xb701, 0)",
            "open($f, '<', '/proc/self/ns/pid') && io($f, 0xb702, 0)",
            "writable('/proc/self/uid_map') && do { open($f, '>', '/proc/self/uid_map'); syswrite $f, '0 0 1' }",
            "open($f, '>', '/proc/self/gid_map') && syswrite $f, '0 0 1'",
            "open($f, '>', '/proc/self/setgroups') && syswrite $f, 'allow'",
        ],
    ),
    (
        "mounts",
        &[
            "sc('mount', 'none', '/tmp', 'tmpfs', 0, 0)",
            "sc('mount', 'proc', '/tmp', 'proc', 0, 0)",
            "sc('mount', 'sysfs', '/tmp', 'sysfs', 0, 0)",
            "sc('mount', 'cgroup', '/tmp', 'cgroup2', 0, 0)",
            "sc('mount', '/', '/tmp', '', 4096, 0)",
            "sc('mount', '', '/', '', 0x20 | 4096, 0)",
            "sc('mount', '', '/proc/sys', '', 0x20 | 4096, 0)",
            "sc('mount', '', '/', '', 1 << 20, 0)",
            "sc('umount2', '/proc', 2)",
            "sc('umount2', '/proc/sys', 2)",
            "sc('umount2', '/proc/kcore', 2)",
            "sc('umount2', '/sys', 2)",
            "sc('umount2', '/', 2)",
            "sc('pivot_root', '.', '.')",
            "sc('open_tree', -100, '/', 1)",
            "sc('open_tree', -100, '/', 0)",
            "sc('fsopen', 'tmpfs', 0)",
            "sc('fspick', -100, '/', 0)",
            "sc('move_mount', -100, '/tmp', -100, '/var', 0)",
            "sc('mount_setattr', -100, '/', 0, pack('Q4', 0, 1, 0, 0), 32)",
            "sc('statmount', pack('LLQQ', 24, 0, 1, 1), pack('x512'), 512, 0)",
            "sc('listmount', pack('LLQQ', 24, 0, -1, 0), pack('x512'), 64, 0)",
            "slurp('/proc/self/mountinfo') =~ /\\Q$h{name}\\E/",
            "slurp('/proc/self/mounts') =~ /\\Q$h{name}\\E/",
            "slurp('/proc/self/mountstats') =~ /\\Q$h{name}\\E/",
        ],
    ),
    (
        "files",
        &[
            "out_of('')",
            "out_of('/proc/1/root')",
            "out_of('/proc/self/root')",
            "out_of('/proc/thread-self/root')",
            "out_of('/proc/1/task/1/root')",
            "out_of('/proc/1/cwd')",
            "out_of('/proc/self/cwd/../../../../../../../..')",
            "out_of('/proc/self/fd/0/../../../..')",
            "out_of('/..' x 30)",
            "out_of(map { \"/proc/self/fd/$_\" } 0 .. 300)",
            "grep { $t = readlink \"/proc/self/fd/$_\"; defined $t && $_ > 2 && $t !~ m{^(pipe|/run/probes|/dev/null|/proc)} } 0 .. 1023",
            "mkdir('/tmp/c'); opendir($d, '/'); chroot('/tmp/c'); chdir('..') for 1 .. 50; chroot('.'); out_of('')",
            "mkdir('/tmp/d'); open($d, '<', '/'); chroot('/tmp/d'); sc('fchdir', fileno $d); chdir('..') for 1 .. 50; chroot('.'); out_of('')",
            "for (3 .. 100) { sc('fchdir', $_) and out_of('.', '..', '../..', '../../..') and return 1 } 0",
            "link($h{secret}, '/tmp/hard')",
            "sc('linkat', -100, \"/proc/1/root$h{secret}\", -100, '/tmp/hard2', 0x400)",
            "link('/proc/1/exe', '/tmp/exe')",
            "open($f, '<', '/proc/1/exe')",
            "readlink('/proc/1/exe')",
            "readlink('/proc/1/root')",
            "readlink('/proc/1/cwd')",
            "lists('/proc/1/fd')",
            "lists('/proc/1/map_files')",
            "lists('/proc/1/fdinfo')",
            "writable('/proc/1/mem')",
            "readable('/proc/1/mem')",
            "readable('/proc/1/environ')",
            "readable('/proc/1/maps')",
            "readable('/proc/1/auxv')",
            "readable('/proc/1/stack')",
            "readable('/proc/1/syscall')",
            "readable('/proc/1/io')",
            "writable('/proc/1/clear_refs')",
            "open($f, '>', '/proc/1/oom_score_adj')",
            "-e \"/proc/$h{pid}\"",
            "grep { /^\\d+$/ && $_ > 4000 } do { opendir($d, '/proc'); readdir $d }",
            "syscall($n{name_to_handle_at}, -100, $e = '/etc', $b = pack('LLx128', 128, 0), $m = pack('x8'), 0) >= 0 && sc('open_by_handle_at', 3, $b, 0)",
            "sc('open_by_handle_at', 0, pack('LLQQ', 16, 1, 2, 0), 0)",
            "sc('openat2', -100, \"/proc/1/root$h{secret}\", pack('QQQ', 0, 0, 0), 24)",
            "symlink('/proc/1/root', '/tmp/root'); out_of('/tmp/root')",
            "symlink($h{secret}, '/tmp/link'); readable('/tmp/link')",
        ],
    ),
    (
        "processes of others",
        &[
            "kill(0, $h{pid})",
            "kill(9, $h{pid})",
            "sc('tgkill', $h{pid}, $h{pid}, 0)",
            "sc('tkill', $h{pid}, 0)",
            "sc('pidfd_open', $h{pid}, 0)",
            "sc('ptrace', 16, $h{pid}, 0, 0)",
            "sc('ptrace', 0x4206, $h{pid}, 0, 0)",
            "sc('ptrace', 16, 1, 0, 0)",
            "sc('ptrace', 0x4206, 1, 0, 0)",
            "sc('process_vm_readv', 1, $l = pack('PQ', $b = 'x' x 8, 8), 1, pack('QQ', 4194304, 8), 1, 0)",
            "sc('process_vm_readv', $h{pid}, $l = pack('PQ', $b = 'x' x 8, 8), 1, pack('QQ', 4194304, 8), 1, 0)",
            "sc('process_vm_writev', 1, $l = pack('PQ', $b = 'x' x 8, 8), 1, pack('QQ', 4194304, 8), 1, 0)",
            "$p = syscall($n{pidfd_open}, 1, 0); $p >= 0 && sc('pidfd_getfd', $p, 1, 0)",
            "sc('prlimit64', $h{pid}, 7, 0, $b = pack('x16'))",
            "sc('prlimit64', 1, 7, pack('QQ', 1, 1), 0)",
            "sc('sched_setaffinity', $h{pid}, 8, pack('Q', 1))",
            "sc('getpgid', $h{pid})",
            "sc('getsid', $h{pid})",
            "sc('setpriority', 0, $h{pid}, 5)",
            "sc('ioprio_set', 1, $h{pid}, 3 << 13)",
            "sc('kcmp', $$ + 0, 1, 0, 0, 0)",
            "sc('process_madvise', 0, 0, 0, 0, 0)",
            "sc('process_mrelease', 0, 0)",
            "sc('migrate_pages', 1, 64, pack('Q', 1), pack('Q', 1))",
            "sc('move_pages', 1, 0, 0, 0, 0, 0)",
        ],
    ),
    (
        "the host's clock, name and kernel",
        &[
            "sc('settimeofday', pack('qq', 0, 0), 0)",
            "sc('clock_settime', 0, pack('qq', 0, 0))",
            "sc('adjtimex', pack('x208'))",
            "sc('clock_adjtime', 0, pack('x208'))",
            "sc('timerfd_create', 8, 0)",
            "sc('timerfd_create', 9, 0)",
            "sc('timer_create', 8, 0, $b = pack('x8'))",
            "sc('sethostname', 'x', 1)",
            "sc('setdomainname', 'x', 1)",
            "sc('reboot', 0xfee1dead, 672274793, 0, 0)",
            "sc('kexec_load', 0, 0, 0, 0)",
            "sc('init_module', '', 0, '')",
            "sc('finit_module', 0, '', 0)",
            "sc('delete_module', 'loop', 0)",
            "sc('bpf', 0, pack('x120'), 120)",
            "sc('perf_event_open', pack('x112'), 0, -1, -1, 0)",
            "sc('userfaultfd', 0)",
            "sc('userfaultfd', 1)",
            "sc('io_uring_setup', 1, pack('x120'))",
            "sc('io_uring_enter', 0, 0, 0, 0, 0)",
            "sc('io_uring_register', 0, 0, 0, 0)",
            "sc('keyctl', 0, -3, 1)",
            "sc('add_key', 'user', 'x', 'y', 1, -3)",
            "sc('request_key', 'user', 'x', 0, -3)",
            "sc('syslog', 3, $b = pack('x256'), 256)",
            "sc('syslog', 10, 0, 0)",
            "sc('swapon', '/tmp/x', 0)",
            "sc('swapoff', '/tmp/x')",
            "sc('acct', '/tmp/x')",
            "sc('quotactl', 0x800007 << 8, '/dev/null', 0, 0)",
            "sc('quotactl_fd', 0, 0x800007 << 8, 0, 0)",
            "sc('fanotify_init', 0, 0)",
            "sc('fanotify_mark', 0, 1, 0, -100, '/')",
            "sc('vhangup')",
            "sc('lookup_dcookie', 1, $b = pack('x256'), 256)",
            "sc('memfd_secret', 0)",
            "sc('lsm_list_modules', $b = pack('x64'), $s = pack('L', 64), 0)",
            "sc('cachestat', 0, 0, 0, 0)",
            "sc('nfsservctl', 0, 0, 0)",
            "sc('mmap', 0, 4096, 3, 0x32, -1, 0)",
        ],
    ),
    (
        "terminals",
        &[
            "open($t, '+<', '/dev/ptmx') && io($t, 0x5412, 'x')",
            "open($t, '+<', '/dev/ptmx') && io($t, 0x541c, pack('C', 2))",
            "open($t, '+<', '/dev/ptmx') && io($t, 0x5423, pack('l', 13))",
            "open($t, '+<', '/dev/ptmx') && io($t, 0x541d, 0)",
            "open($t, '+<', '/dev/tty')",
            "open($t, '+<', '/dev/console')",
            "io(*STDIN, 0x5412, 'x')",
            "sc('ioctl', 0, 0x100005412, 'x')",
        ],
    ),
    (
        "rights",
        &[
            "status('self', 'NoNewPrivs') ne '1'",
            "status('self', 'Seccomp') ne '2'",
            "status('self', 'CapInh') ne '0000000000000000'",
            "status('self', 'CapAmb') ne '0000000000000000'",
            "hex(status('self', 'CapBnd')) & ~0xa00425fb",
            "hex(status('self', 'CapPrm')) & ~0xa00425fb",
            "sc('prctl', 38, 0, 0, 0, 0)",
            "sc('prctl', 22, 0, 0, 0, 0)",
            "sc('prctl', 47, 2, 21, 0, 0)",
            "sc('prctl', 35, 1, 0, 0, 0)",
            "sc('capset', pack('LL', 0x20080522, 0), pack('L6', 1 << 21, 1 << 21, 1 << 21, 0, 0, 0))",
            "sc('capset', pack('LL', 0x20080522, 0), pack('L6', 0xffffffff, 0xffffffff, 0, 0xff, 0xff, 0))",
            "sc('setuid', 70000) && $> == 70000 && $h{user}",
            "$h{user} && sc('setuid', 0)",
            "$h{user} && sc('setgid', 0)",
            "$h{user} && sc('setgroups', 1, pack('L', 0))",
            "$h{user} && sc('setresuid', 0, 0, 0)",
            "$h{user} && system('/usr/bin/suid', '-e', 'exit($> == 0 ? 3 : 0)') >> 8 == 3",
            "$h{user} && system('/usr/bin/su', '-c', 'true', 'root') == 0",
            "$h{user} && writable('/etc/passwd')",
            "$h{user} && chown(0, 0, '/tmp')",
            "$h{user} && chroot('/tmp')",
            "$h{user} && kill(0, 1)",
            "sc('setrlimit', 4, pack('QQ', 1 << 20, 1 << 20))",
            "sc('setrlimit', 8, pack('Qq', -1, -1))",
            "sc('setpriority', 0, 0, -20)",
            "sc('sched_setscheduler', 0, 1, pack('L', 50))",
            "sc('sched_setscheduler', 0, 2, pack('L', 1))",
            "sc('ioprio_set', 1, 0, 1 << 13)",
            "open($f, '>', '/proc/self/oom_score_adj') && syswrite($f, '-1000')",
            "sc('mlock', 0x10000, 1 << 45)",
            "open($f, '>', '/tmp/i'); io($f, 0x40086602, pack('Q', 0x10))",
            "open($f, '>', '/tmp/a'); sc('fsetxattr', fileno $f, 'trusted.overlay.opaque', 'y', 1, 0)",
            "sc('setxattr', '/var', 'trusted.overlay.opaque', 'y', 1, 0)",
            "open($f, '<', '/'); io($f, 0xc0045877, pack('L', 0))",
            "open($f, '<', '/'); io($f, 0xc0185879, pack('QQQ', 0, -1, 0))",
            "open($f, '<', '/'); io($f, 0x8004587d, pack('L', 1))",
            "open($f, '<', '/usr/bin/perl'); io($f, 1, pack('L', 0))",
        ],
    ),
    (
        "the network",
        &[
            "socket($s, 2, 1, 0) && connect($s, pack('S n a4 x8', 2, $h{port}, pack('C4', 127, 0, 0, 1)))",
            "socket($s, 2, 1, 0) && connect($s, pack('S n a4 x8', 2, 80, pack('C4', 169, 254, 169, 254)))",
            "socket($s, 1, 1, 0) && connect($s, pack('S a*', 1, \"\\0$h{abstract}\"))",
            "socket($s, 2, 2, 0) && io($s, 0x8914, pack('a16 s x22', 'lo', 0))",
            "socket($s, 2, 2, 0) && io($s, 0x8924, pack('a16 x24', 'lo'))",
            "socket($s, 2, 2, 0) && setsockopt($s, 1, 32, pack('l', 1 << 30))",
            "socket($s, 2, 2, 0) && setsockopt($s, 1, 33, pack('l', 1 << 30))",
            "socket($s, 2, 2, 0) && setsockopt($s, 1, 1, pack('l', 1))",
            "slurp('/proc/net/dev') =~ /^\\s*(?!lo:|Inter|face)\\w+:/m",
            "slurp('/proc/net/route') =~ /^(?!Iface)\\S/m",
            "slurp('/proc/net/unix') =~ /\\Q$h{abstract}\\E/",
            "(() = slurp('/proc/sysvipc/shm') =~ /\\n/g) > 1",
            "(() = slurp('/proc/sysvipc/sem') =~ /\\n/g) > 1",
            "(() = slurp('/proc/sysvipc/msg') =~ /\\n/g) > 1",
            "lists('/dev/mqueue')",
            "lists('/dev/shm')",
        ],
    ),
];

/// Files of /proc that must show nothing.
const EMPTY: &str = "cmdline config.gz consoles diskstats interrupts iomem ioports kallsyms kcore \
    key-users keys kmsg kpagecgroup kpagecount kpageflags latency_stats mdstat modules mtrr \
    pagetypeinfo partitions sched_debug schedstat slabinfo softirqs swaps sysrq-trigger timer_list \
    timer_stats vmallocinfo bootconfig fb";
/// Directories of /proc and /sys that must be empty.
const NO_ENTRIES: &str = "/proc/acpi /proc/asound /proc/bus /proc/driver /proc/dynamic_debug \
    /proc/fs /proc/irq /proc/pressure /proc/scsi /sys /sys/kernel /sys/fs/cgroup /sys/class \
    /sys/block /sys/devices /sys/firmware /sys/kernel/debug /sys/kernel/security \
    /proc/sys/fs/binfmt_misc";
/// Files that must not be open for writing.
const SETTINGS: &str = "kernel/core_pattern kernel/modprobe kernel/hotplug kernel/hostname \
    kernel/domainname kernel/sysrq kernel/printk kernel/randomize_va_space kernel/kptr_restrict \
    kernel/dmesg_restrict kernel/perf_event_paranoid kernel/unprivileged_bpf_disabled \
    kernel/yama/ptrace_scope kernel/ns_last_pid kernel/poweroff_cmd kernel/pid_max kernel/panic \
    kernel/shmmax kernel/msgmax kernel/sem kernel/threads-max kernel/random/boot_id \
    kernel/unprivileged_userns_clone vm/overcommit_memory vm/drop_caches vm/panic_on_oom \
    vm/mmap_min_addr vm/swappiness vm/nr_hugepages fs/binfmt_misc/register fs/suid_dumpable \
    fs/protected_hardlinks fs/protected_symlinks fs/file-max fs/pipe-max-size \
    fs/mqueue/queues_max net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start \
    net/core/somaxconn user/max_user_namespaces user/max_mnt_namespaces";
/// Devices of the host that must not be there.
const DEVICES: &str = "mem kmem port kmsg sda vda nvme0n1 kvm fuse net/tun loop0 loop-control \
    mapper/control vhost-net vhost-vsock hwrng rtc0 uinput input/event0 dri/card0 vfio/vfio \
    userfaultfd cpu_dma_latency hpet snapshot watchdog btrfs-control ppp autofs uhid ttyS0 tty0 \
    vcs vcsa hugepages";
/// Numbers of devices that must not work, where they can be made at all.
const NODES: &[(char, u32, u32)] = &[
    ('c', 1, 1),
    ('c', 1, 2),
    ('c', 1, 4),
    ('c', 1, 11),
    ('c', 1, 5),
    ('c', 5, 1),
    ('c', 4, 0),
    ('c', 10, 200),
    ('c', 10, 229),
    ('c', 10, 232),
    ('c', 10, 237),
    ('c', 10, 238),
    ('c', 10, 235),
    ('c', 10, 234),
    ('c', 10, 183),
    ('b', 7, 0),
    ('b', 8, 0),
    ('b', 254, 0),
    ('b', 259, 0),
];

/// The names and numbers of this machine's calls, and which error the filter gives where it always
/// gives one.
fn calls() -> Vec<(&'static str, u32, Option<i32>)> {
    let column = if cfg!(target_arch = "x86_64") { 1 } else { 2 };
    let rows = CALLS.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let fields: Vec<_> = row.split_whitespace().collect();
        let refused = match fields[3] {
            "eperm" => Some(libc::EPERM),
            "enosys" => Some(libc::ENOSYS),
            _ => None,
        };
        Some((fields[0], fields[column].parse().ok()?, refused))
    })
    .collect()
}

/// A probe's name, what it does, and how it must end, where only one end will do.
type Probe = (String, String, Option<String>);

fn error(errno: i32) -> Option<String> {
    Some(format!("out {errno}"))
}

/// Every call that is refused, and every number that no call has.
fn refused_calls() -> Vec<Probe> {
    let known = calls();
    let mut probes = vec![];
    for number in 0..HIGHEST {
        let row = known.iter().find(|(_, known, _)| *known == number);
        let (name, expected) = match row {
            Some((_, _, None)) => continue,
            Some((name, _, Some(errno))) => (*name, *errno),
            None => ("unknown", libc::ENOSYS),
        };
        let code = format!("$! = 0; syscall({number}, 0, 0, 0, 0, 0, 0) >= 0");
        probes.push((format!("call {number} {name}"), code, error(expected)));
    }
    probes
}

fn probes() -> Vec<Probe> {
    let mut probes = vec![];
    let mut add = |group: &str, code: String, expected| {
        probes.push((format!("{group}: {}", code.replace(['\t', '\n'], " ")), code, expected));
    };
    for (group, codes) in ATTEMPTS {
        for code in *codes {
            add(group, (*code).to_owned(), None);
        }
    }
    for name in EMPTY.split_whitespace() {
        add("hidden", format!("readable('/proc/{name}')"), None);
        add("hidden", format!("writable('/proc/{name}')"), None);
    }
    for name in NO_ENTRIES.split_whitespace() {
        add("hidden", format!("lists('{name}')"), None);
    }
    add("hidden", "slurp('/proc/sys/kernel/random/boot_id') eq $h{boot_id}".into(), None);
    add("hidden", "slurp('/proc/sys/kernel/random/boot_id') !~ /^[0-9a-f-]{36}$/".into(), None);
    for name in SETTINGS.split_whitespace() {
        add("settings", format!("writable('/proc/sys/{name}')"), None);
    }
    for name in DEVICES.split_whitespace() {
        add("devices", format!("-e '/dev/{name}'"), None);
    }
    for (kind, major, minor) in NODES {
        for dir in ["/tmp", "/var", "/dev", "/dev/shm"] {
            add("devices", format!("device('{kind}', {major}, {minor}, '{dir}')"), None);
        }
    }
    for capability in 0..41 {
        if 0xa004_25fb_u64 >> capability & 1 == 0 {
            add("rights", format!("syscall($n{{prctl}}, 23, {capability}, 0, 0, 0) != 0"), None);
        }
    }
    let families: Vec<i32> = (0..46).filter(|family| ![1, 2, 10, 16].contains(family)).collect();
    for family in families {
        for kind in [1, 3] {
            let code = format!("sc('socket', {family}, {kind}, 0)");
            add("sockets", code, error(libc::EAFNOSUPPORT));
        }
        let code = format!("sc('socketpair', {family}, 1, 0, $b = pack('x8'))");
        add("sockets", code, error(libc::EAFNOSUPPORT));
    }
    for protocol in (0..32).filter(|protocol| ![0, 4, 9, 15, 16].contains(protocol)) {
        let code = format!("sc('socket', 16, 3, {protocol})");
        add("sockets", code, error(libc::EPROTONOSUPPORT));
    }
    for bit in (0..32).filter(|bit| ![17, 18].contains(bit)) {
        let personality = 1_u32 << bit;
        if personality != 8 {
            let code = format!("sc('personality', {personality})");
            add("personality", code, error(libc::EPERM));
        }
    }
    for kind in (0..20).filter(|kind| *kind != 8) {
        add("personality", format!("sc('personality', 0x4000000 | {kind})"), error(libc::EPERM));
    }
    #[cfg(target_arch = "x86_64")]
    for (number, what) in [(20, "getpid"), (120, "clone"), (21, "mount"), (310, "unshare")] {
        // The code is put into memory, and called as a part of perl would be.
        let code = format!(
            "$at = syscall($n{{mmap}}, 0, 4096, 7, 0x22, -1, 0); pipe($r, $w); \
                syswrite $w, pack('C*', 0xb8, {number}, {high}, 0, 0, 0xcd, 0x80, 0xc3); \
                syscall($n{{read}}, fileno $r, $at, 8); \
                DynaLoader::boot_DynaLoader('DynaLoader') unless defined &DynaLoader::dl_install_xsub; \
                DynaLoader::dl_install_xsub('main::thirty_two', $at); main::thirty_two(); 1 # {what}",
            number = number & 255,
            high = number >> 8,
        );
        add("32 bits", code, Some(format!("signal {}", libc::SIGSYS)));
    }
    #[cfg(target_arch = "x86_64")]
    for number in [0_u32, 39, 56, 59, 101, 165, 272, 512, 520, 545] {
        let code = format!("$! = 0; syscall({}, 0, 0, 0, 0, 0) >= 0", number | 0x4000_0000);
        add("x32", code, error(libc::ENOSYS));
    }
    probes.extend(refused_calls());
    probes
}

/// What must work, so that nothing is refused only because nothing works.
const CONTROLS: &[&str] = &[
    "sc('getpid')",
    "readable('/etc/passwd')",
    "writable('/tmp/own')",
    "lists('/proc/self/fd')",
    "-e '/etc/passwd' && do { local $h{secret} = '/etc/passwd'; out_of('/proc/self/root') }",
    "sc('socket', 2, 1, 0)",
    "sc('socket', 10, 1, 0)",
    "sc('socket', 16, 3, 0)",
    "sc('socketpair', 1, 1, 0, $b = pack('x8'))",
    "sc('personality', 0)",
    "sc('personality', 0x40000)",
    "open($t, '+<', '/dev/ptmx') && ioctl($t, 0x5413, $b = pack('x8'))",
    "readable('/proc/meminfo')",
    "readable('/proc/sys/kernel/random/boot_id')",
    "link('/tmp/own', '/tmp/own2')",
    "kill(0, $$)",
    "sc('pidfd_open', $$ + 0, 0)",
    "sc('setrlimit', 4, pack('QQ', 0, 0))",
];

/// Runs all probes as `user` of the sandbox and returns the lines about them.
fn run(lab: &Lab, user: &str, abstract_name: &str, port: u16) -> Ran {
    let secret = lab.dir.path().join("secret");
    let mut script = HARNESS.replacen("$| = 1;", "", 1);
    let mut data = String::from("BEGIN { our %n = (");
    for (name, number, _) in calls() {
        let _ = write!(data, "'{name}', {number}, ");
    }
    let host = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let _ = write!(
        data,
        "); our %h = (secret => '{}', name => '{}', pid => {}, port => {port}, \
            abstract => '{abstract_name}', user => {}, boot_id => q({})); $| = 1; our @probes = (",
        secret.display(),
        lab.dir.path().file_name().unwrap().display(),
        std::process::id(),
        u32::from(user != "root"),
        host("/proc/sys/kernel/random/boot_id"),
    );
    let controls = CONTROLS.iter().map(|code| (format!("control: {code}"), (*code).to_owned()));
    let probes = probes().into_iter().map(|(name, code, _)| (name, code));
    for (n, (_, code)) in controls.chain(probes).enumerate() {
        let _ = write!(data, "['{n}', <<'PROBE'],\n{code}\nPROBE\n");
    }
    data.push_str("); }\n");
    script.insert_str(0, &data);
    let files = vec![PolicyFile { at: "/run/probes.pl".into(), bytes: script.into(), mode: 0o444 }];
    let setuid = lab.layer(&format!("setuid-{user}"));
    fs::create_dir_all(setuid.join("usr/bin")).unwrap();
    let suid = setuid.join("usr/bin/suid");
    fs::copy(lab.tools().join("usr/bin/perl"), &suid).unwrap();
    fs::set_permissions(&suid, fs::Permissions::from_mode(0o4755)).unwrap();
    let program = exec(&["perl", "/run/probes.pl"]);
    let job = lab.job(vec![Action::Exec(Exec { user: user.into(), ..program })]);
    let root = Some(lab.overlay(vec![setuid, lab.tools()]));
    lab.run(Job { root, files, ..job })
}

/// As `user` of the sandbox.
fn no_way_out(user: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.dir.path().join("secret"), "secret\n").unwrap();
    let name = format!("bake-probe-{user}-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let ran = run(&lab, user, &name, listener.local_addr().unwrap().port());
    let probes = probes();
    let results: Vec<&str> =
        ran.out.iter().filter_map(|line| Some(line.split_once('\t')?.1)).collect();
    assert_eq!(results.len(), CONTROLS.len() + probes.len(), "{:#?}", (&ran.ended, &ran.err));
    let (controls, results) = results.split_at(CONTROLS.len());
    for (code, result) in CONTROLS.iter().zip(controls) {
        assert_eq!(*result, "IN", "what must work does not: {code}");
    }
    let mut wrong = vec![];
    for ((name, _, expected), result) in probes.iter().zip(results) {
        let fine = match expected {
            Some(expected) => result == expected,
            // A probe that is no perl has tried nothing.
            None => *result != "IN" && !result.starts_with("error"),
        };
        if !fine {
            wrong.push(format!("{name} -> {result}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), probes.len());
    let named = probes.iter().filter(|(name, ..)| !name.starts_with("call ")).count();
    assert!(named >= 300, "only {named} probes");
}

#[test]
fn userns_no_probe_gets_out_as_root() {
    no_way_out("root");
}

#[test]
fn userns_no_probe_gets_out_as_a_user() {
    no_way_out("app");
}
