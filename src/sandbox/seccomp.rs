//! Which system calls a step may make: everything up to the newest this list was written for, less
//! what Docker's default withholds.
//!
//! A step has no capability to do harm with most of these; the filter is the second wall, in front
//! of kernel code that has had holes. Unknown (newer) calls say `ENOSYS`, so programs fall back.

use std::io;
use std::os::fd::OwnedFd;

use seccompiler::sock_filter;

use super::ids::Limits;
use super::sys;

/// The newest call judged here (`file_setattr`, Linux 6.17). Numbers from 424 on are the same on
/// all machines.
const NEWEST: u32 = 469;

/// Refused with `EPERM`: like a privileged call without the privilege.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    457, // statmount
    458, // listmount
    467, // open_tree_attr
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    libc::SYS_kexec_file_load,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    libc::SYS_lookup_dcookie,
];

/// Answered with `ENOSYS`, so that libraries use the older way: clone3 hides its flags from
/// filters, io_uring its calls.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_nfsservctl,
];

/// Every `CLONE_NEW…` that `clone` takes.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

/// Personalities that programs have a use for: default, short inodes, no randomised addresses,
/// `uname` 2.6, and asking.
const PERSONALITIES: &[u32] = &[0, 0x0008, 0x0004_0000, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// Socket families that reach past any namespace: the hypervisor's, and the kernel's crypto.
const FAMILIES: &[u32] = &[libc::AF_VSOCK.cast_unsigned(), libc::AF_ALG.cast_unsigned()];

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCH: u32 = 0xc000_00f3;

// Offsets in `struct seccomp_data`; the low half of an argument comes first on the little-endian
// machines that bake runs on.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENT_0: u32 = 16;
const ARGUMENT_1: u32 = 24;
const ARGUMENT_2: u32 = 32;
const ARGUMENT_3: u32 = 40;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
/// Left to the init, which refuses it as the kernel would, and remembers that.
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// Calls that set an owner, and where the user id stands among their arguments; the group id is the
/// next.
const OWNERS: &[(libc::c_long, u32, u32)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, ARGUMENT_1, ARGUMENT_2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, ARGUMENT_1, ARGUMENT_2),
    (libc::SYS_fchown, ARGUMENT_1, ARGUMENT_2),
    (libc::SYS_fchownat, ARGUMENT_2, ARGUMENT_3),
];

/// The id that means "unchanged".
const UNCHANGED: u32 = u32::MAX;

/// A program in the making: every test is followed by the answer it leads to, so no jump is longer
/// than the few tests of one call.
struct Program(Vec<sock_filter>);

impl Program {
    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(sock_filter { code, jt, jf, k });
    }

    /// Returns `answer` if the test holds, else goes on.
    fn answer_if(&mut self, test: u16, k: u32, answer: u32) {
        self.push(test, k, 0, 1);
        self.push(RETURN, answer, 0, 0);
    }

    /// For call `number`: if its first argument passes one of `tests`, `then`, else `otherwise`.
    fn by_argument(
        &mut self,
        number: libc::c_long,
        tests: &[(u16, u32)],
        then: u32,
        otherwise: u32,
    ) {
        let length = u8::try_from(1 + 2 * tests.len() + 1).expect("a handful of tests");
        self.push(EQUAL, call(number), 0, length);
        self.push(LOAD, ARGUMENT_0, 0, 0);
        for (test, k) in tests {
            self.answer_if(*test, *k, then);
        }
        self.push(RETURN, otherwise, 0, 0);
    }
}

impl Program {
    /// For call `number`: asks where the id in one of `arguments` is above what goes with it.
    fn by_owner(&mut self, number: libc::c_long, arguments: [(u32, u32); 2]) {
        self.push(EQUAL, call(number), 0, 9);
        for (argument, highest) in arguments {
            self.push(LOAD, argument, 0, 0);
            self.push(GREATER, highest, 0, 2);
            self.answer_unless(UNCHANGED, ASK);
        }
        self.push(RETURN, ALLOW, 0, 0);
    }

    /// Returns `answer` unless the word is `k`.
    fn answer_unless(&mut self, k: u32, answer: u32) {
        self.push(EQUAL, k, 1, 0);
        self.push(RETURN, answer, 0, 0);
    }
}

fn call(number: libc::c_long) -> u32 {
    u32::try_from(number).expect("call numbers are small and positive")
}

/// The filter.
fn program(limits: Limits) -> Vec<sock_filter> {
    let mut program = Program(vec![]);
    program.push(LOAD, MACHINE, 0, 0);
    program.push(EQUAL, ARCH, 1, 0);
    program.push(RETURN, KILL, 0, 0);
    program.push(LOAD, NUMBER, 0, 0);
    // Also every x32 call, whose numbers carry a high bit.
    program.answer_if(GREATER, NEWEST, ENOSYS);
    for number in ABSENT {
        program.answer_if(EQUAL, call(*number), ENOSYS);
    }
    for number in REFUSED {
        program.answer_if(EQUAL, call(*number), EPERM);
    }
    program.by_argument(libc::SYS_clone, &[(ANY_BIT, NAMESPACES)], EPERM, ALLOW);
    program.by_argument(
        libc::SYS_socket,
        &FAMILIES.iter().map(|family| (EQUAL, *family)).collect::<Vec<_>>(),
        EPERM,
        ALLOW,
    );
    program.by_argument(
        libc::SYS_personality,
        &PERSONALITIES.iter().map(|p| (EQUAL, *p)).collect::<Vec<_>>(),
        ALLOW,
        EPERM,
    );
    for (number, user, group) in OWNERS {
        program.by_owner(*number, [(*user, limits.uid), (*group, limits.gid)]);
    }
    program.push(RETURN, ALLOW, 0, 0);
    program.0
}

/// The filter as bytes for the plan.
pub(super) fn bytes(limits: Limits) -> Vec<u8> {
    let mut bytes = vec![];
    for step in program(limits) {
        bytes.extend_from_slice(&step.code.to_le_bytes());
        bytes.extend_from_slice(&[step.jt, step.jf]);
        bytes.extend_from_slice(&step.k.to_le_bytes());
    }
    bytes
}

/// Puts the filter on this process, for ever; sets no_new_privs too. Returns where the calls are
/// asked about that it leaves open; to be answered as long as a process has the filter.
pub(super) fn apply(bytes: &[u8]) -> io::Result<OwnedFd> {
    let steps: Vec<sock_filter> = bytes
        .chunks_exact(8)
        .map(|b| sock_filter {
            code: u16::from_le_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect();
    sys::seccomp_filter(&steps)
}

/// Which id a call that was asked about wants to give: the first that is above the limits.
pub(super) fn wanted(number: u32, arguments: &[u64; 6], limits: Limits) -> Option<u32> {
    let (_, user, group) = OWNERS.iter().find(|(known, ..)| call(*known) == number)?;
    let id = |offset: u32| arguments.get(((offset - ARGUMENT_0) / 8) as usize).map(|id| *id as u32);
    let above = |id: &u32, highest: u32| *id > highest && *id != UNCHANGED;
    id(*user)
        .filter(|uid| above(uid, limits.uid))
        .or_else(|| id(*group).filter(|gid| above(gid, limits.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { uid: 65_535, gid: 1_000_000 };

    /// Runs the filter on one call, as the kernel would.
    fn judge(arch: u32, number: u32, argument: u32) -> u32 {
        judge_all(arch, number, &[argument.into(), 0, 0, 0, 0, 0])
    }

    fn judge_all(arch: u32, number: u32, arguments: &[u64; 6]) -> u32 {
        let steps = program(LIMITS);
        let (mut at, mut word) = (0, 0);
        loop {
            let step = &steps[at];
            at += 1;
            let test = match step.code {
                LOAD => {
                    word = match step.k {
                        NUMBER => number,
                        MACHINE => arch,
                        ARGUMENT_0..=56 => arguments[((step.k - ARGUMENT_0) / 8) as usize] as u32,
                        other => panic!("load from {other}"),
                    };
                    continue;
                }
                RETURN => return step.k,
                EQUAL => word == step.k,
                GREATER => word > step.k,
                ANY_BIT => word & step.k != 0,
                other => panic!("code {other}"),
            };
            at += usize::from(if test { step.jt } else { step.jf });
        }
    }

    #[test]
    fn answers_as_listed() {
        let on = |number: libc::c_long, argument: u32| judge(ARCH, call(number), argument);
        for number in REFUSED {
            assert_eq!(on(*number, 0), EPERM, "{number}");
        }
        for number in ABSENT {
            assert_eq!(on(*number, 0), ENOSYS, "{number}");
        }
        for number in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_mknodat,
            libc::SYS_fchownat,
            libc::SYS_ptrace,
            libc::SYS_chroot,
        ] {
            assert_eq!(on(number, 0), ALLOW, "{number}");
        }
        assert_eq!(on(libc::SYS_clone, libc::SIGCHLD.cast_unsigned()), ALLOW);
        assert_eq!(on(libc::SYS_clone, libc::CLONE_NEWUSER.cast_unsigned()), EPERM);
        assert_eq!(
            on(libc::SYS_clone, (libc::CLONE_NEWNS | libc::CLONE_VM).cast_unsigned()),
            EPERM
        );
        assert_eq!(on(libc::SYS_socket, libc::AF_INET.cast_unsigned()), ALLOW);
        assert_eq!(on(libc::SYS_socket, libc::AF_VSOCK.cast_unsigned()), EPERM);
        assert_eq!(on(libc::SYS_personality, 0), ALLOW);
        assert_eq!(on(libc::SYS_personality, 1), EPERM);
        assert_eq!(judge(ARCH, NEWEST + 1, 0), ENOSYS);
        assert_eq!(judge(ARCH, 0x4000_0000, 0), ENOSYS);
        assert_eq!(judge(0x4000_0003, 1, 0), KILL);
    }

    #[test]
    fn owners_beyond_the_limits_are_asked_about() {
        let check = |number: libc::c_long, at: usize, uid: u32, gid: u32, expected: Option<u32>| {
            let mut arguments = [u64::MAX; 6];
            (arguments[at], arguments[at + 1]) = (uid.into(), gid.into());
            let answer = judge_all(ARCH, call(number), &arguments);
            assert_eq!(
                answer,
                if expected.is_some() { ASK } else { ALLOW },
                "{number} {uid}:{gid}"
            );
            assert_eq!(wanted(call(number), &arguments, LIMITS), expected);
        };
        for (number, at) in [(libc::SYS_fchown, 1), (libc::SYS_fchownat, 2)] {
            check(number, at, 65_535, 1_000_000, None);
            check(number, at, UNCHANGED, UNCHANGED, None);
            check(number, at, 65_536, 0, Some(65_536));
            check(number, at, 0, 1_000_001, Some(1_000_001));
            check(number, at, UNCHANGED, 1_885_580_785, Some(1_885_580_785));
            check(number, at, 1_885_580_785, UNCHANGED, Some(1_885_580_785));
        }
    }
}
