//! Which system calls a step may make: those of a table (`calls.txt`), some of them by their
//! arguments, and no others.
//!
//! A step has no capability to do harm with most of the rest; the filter is the second wall, in
//! front of kernel code that has had holes. The table allows no more than Docker's default does.
//! Unknown (newer) calls say `ENOSYS`, so programs fall back.
//!
//! The program is a binary search over the numbers of the calls: eight tests where a list needs
//! hundreds. For the calls that are allowed whatever their arguments the kernel does not even run
//! it (since Linux 5.11 it finds out once which those are).

use std::io;
use std::os::fd::OwnedFd;

use seccompiler::sock_filter;

use super::ids::Limits;
use super::sys;

/// The calls, each with its answer.
const CALLS: &str = include_str!("calls.txt");

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

/// Socket families that programs need. The others reach past any namespace (the hypervisor's, the
/// kernel's crypto) or lead to code that few look after; a raw packet is none of a step's business.
const FAMILIES: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Protocols of netlink, the fourth family: interfaces, sockets, audit (which useradd and sshd look
/// for), devices, and the names of others. Not packet filters and the kernel's crypto.
const NETLINK: &[libc::c_int] = &[
    libc::NETLINK_ROUTE,
    libc::NETLINK_SOCK_DIAG,
    libc::NETLINK_AUDIT,
    libc::NETLINK_KOBJECT_UEVENT,
    libc::NETLINK_GENERIC,
];

/// Requests that put characters into a terminal as if somebody had typed them, or change who
/// handles its lines: kernel code that has had holes.
const TERMINAL: &[libc::Ioctl] = &[libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD];

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
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
/// Left to the init, which refuses it as the kernel would, and remembers that.
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
const EPERM: u32 = error(libc::EPERM);
const ENOSYS: u32 = error(libc::ENOSYS);
/// As from a kernel without the family or the protocol.
const NO_FAMILY: u32 = error(libc::EAFNOSUPPORT);
const NO_PROTOCOL: u32 = error(libc::EPROTONOSUPPORT);

const fn error(errno: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

/// The id that means "unchanged".
const UNCHANGED: u32 = u32::MAX;

/// What the table says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The same, whatever the arguments.
    Always(u32),
    /// By the flags.
    Clone,
    /// By the request.
    Ioctl,
    /// Not where the first argument is process 1: the init, whose user id is that of a step's root.
    NotInit,
    /// By what is asked for.
    Personality,
    /// By family and protocol.
    Socket,
    /// By family.
    Socketpair,
    /// By the user id, which is this argument, and the group id, which is the next.
    Owner(u32),
}

impl Rule {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "allow" => Self::Always(ALLOW),
            "eperm" => Self::Always(EPERM),
            "enosys" => Self::Always(ENOSYS),
            "clone" => Self::Clone,
            "ioctl" => Self::Ioctl,
            "not-init" => Self::NotInit,
            "personality" => Self::Personality,
            "socket" => Self::Socket,
            "socketpair" => Self::Socketpair,
            word => Self::Owner(word.strip_prefix("owner:")?.parse().ok()?),
        })
    }

    /// The part of the program that answers, with the call's number loaded.
    fn program(self, limits: Limits) -> Vec<sock_filter> {
        let mut part = Part(vec![]);
        match self {
            Self::Always(answer) => part.answer(answer),
            Self::Clone => {
                part.load(argument(0));
                part.answer_if(ANY_BIT, NAMESPACES, EPERM);
                part.answer(ALLOW);
            }
            Self::Ioctl => {
                part.load(argument(1));
                for request in TERMINAL {
                    part.answer_if(EQUAL, *request as u32, EPERM);
                }
                part.answer(ALLOW);
            }
            Self::NotInit => {
                part.load(argument(0));
                part.answer_if(EQUAL, 1, EPERM);
                part.answer(ALLOW);
            }
            Self::Personality => {
                part.load(argument(0));
                for personality in PERSONALITIES {
                    part.answer_if(EQUAL, *personality, ALLOW);
                }
                part.answer(EPERM);
            }
            Self::Socket => {
                part.load(argument(0));
                for family in FAMILIES {
                    part.answer_if(EQUAL, family.cast_unsigned(), ALLOW);
                }
                part.answer_unless(libc::AF_NETLINK.cast_unsigned(), NO_FAMILY);
                part.load(argument(2));
                for protocol in NETLINK {
                    part.answer_if(EQUAL, protocol.cast_unsigned(), ALLOW);
                }
                part.answer(NO_PROTOCOL);
            }
            Self::Socketpair => {
                part.load(argument(0));
                part.answer_unless(libc::AF_UNIX.cast_unsigned(), NO_FAMILY);
                part.answer(ALLOW);
            }
            Self::Owner(user) => {
                for (n, highest) in [(user, limits.uid), (user + 1, limits.gid)] {
                    part.load(argument(n));
                    part.push(GREATER, highest, 0, 2);
                    part.answer_unless(UNCHANGED, ASK);
                }
                part.answer(ALLOW);
            }
        }
        part.0
    }
}

/// A part of a program in the making: every test is followed by the answer it leads to.
struct Part(Vec<sock_filter>);

impl Part {
    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(sock_filter { code, jt, jf, k });
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD, offset, 0, 0);
    }

    fn answer(&mut self, answer: u32) {
        self.push(RETURN, answer, 0, 0);
    }

    /// Returns `answer` if the test holds, else goes on.
    fn answer_if(&mut self, test: u16, k: u32, answer: u32) {
        self.push(test, k, 0, 1);
        self.answer(answer);
    }

    /// Returns `answer` unless the word is `k`.
    fn answer_unless(&mut self, k: u32, answer: u32) {
        self.push(EQUAL, k, 1, 0);
        self.answer(answer);
    }
}

/// The calls of a table with their numbers on this machine and their rules, by number.
fn calls(table: &str) -> Vec<(u32, Rule)> {
    let column = if cfg!(target_arch = "x86_64") { 1 } else { 2 };
    let mut calls: Vec<(u32, Rule)> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().take(4).collect();
            let number = fields.get(column).filter(|_| !line.starts_with('#'))?.parse().ok()?;
            Some((number, Rule::of(fields.get(3)?)?))
        })
        .collect();
    calls.sort_unstable_by_key(|(number, _)| *number);
    calls
}

/// The last number of each stretch of numbers with one rule; what follows the last is unknown.
fn stretches(calls: &[(u32, Rule)]) -> Vec<(u32, Rule)> {
    let unknown = Rule::Always(ENOSYS);
    let mut stretches: Vec<(u32, Rule)> = vec![];
    let mut next = 0;
    let mut add = |last: u32, rule: Rule| match stretches.last_mut() {
        Some(before) if before.1 == rule => before.0 = last,
        _ => stretches.push((last, rule)),
    };
    for (number, rule) in calls {
        if *number > next {
            add(number - 1, unknown);
        }
        add(*number, *rule);
        next = number + 1;
    }
    // Also every x32 call, whose numbers carry a high bit.
    add(u32::MAX, unknown);
    stretches
}

/// A binary search for the stretch of the number that is loaded.
fn search(stretches: &[(u32, Rule)], limits: Limits) -> Vec<sock_filter> {
    if let [(_, rule)] = stretches {
        return rule.program(limits);
    }
    let (low, high) = stretches.split_at(stretches.len() / 2);
    let last = low.last().map_or(0, |(last, _)| *last);
    let (below, above) = (search(low, limits), search(high, limits));
    let mut part = Part(vec![]);
    match u8::try_from(below.len()) {
        Ok(length) => part.push(GREATER, last, length, 0),
        Err(_) => {
            // Further than a test can jump.
            part.push(GREATER, last, 0, 1);
            part.push(JUMP, u32::try_from(below.len()).expect("a short program"), 0, 0);
        }
    }
    part.0.extend(below);
    part.0.extend(above);
    part.0
}

/// The filter.
fn program(limits: Limits) -> Vec<sock_filter> {
    let mut program = Part(vec![]);
    program.load(MACHINE);
    program.answer_unless(ARCH, KILL);
    program.load(NUMBER);
    program.0.extend(search(&stretches(&calls(CALLS)), limits));
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
    let rule = calls(CALLS).into_iter().find(|(known, _)| *known == number)?.1;
    let Rule::Owner(user) = rule else { return None };
    let id = |n: u32| arguments.get(n as usize).map(|id| *id as u32);
    let above = |id: &u32, highest: u32| *id > highest && *id != UNCHANGED;
    id(user)
        .filter(|uid| above(uid, limits.uid))
        .or_else(|| id(user + 1).filter(|gid| above(gid, limits.gid)))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const LIMITS: Limits = Limits { uid: 65_535, gid: 1_000_000 };

    fn call(number: libc::c_long) -> u32 {
        u32::try_from(number).unwrap()
    }

    /// Runs the filter on one call, as the kernel would; also returns how many tests that took.
    fn run(arch: u32, number: u32, arguments: &[u64; 6]) -> (u32, usize) {
        static PROGRAM: LazyLock<Vec<sock_filter>> = LazyLock::new(|| program(LIMITS));
        let steps = &*PROGRAM;
        let (mut at, mut word, mut tests) = (0, 0, 0);
        loop {
            let step = &steps[at];
            at += 1;
            let test = match step.code {
                LOAD => {
                    word = match step.k {
                        NUMBER => number,
                        MACHINE => arch,
                        k @ 16..=56 => arguments[((k - 16) / 8) as usize] as u32,
                        other => panic!("load from {other}"),
                    };
                    continue;
                }
                JUMP => {
                    at += step.k as usize;
                    continue;
                }
                RETURN => return (step.k, tests),
                EQUAL => word == step.k,
                GREATER => word > step.k,
                ANY_BIT => word & step.k != 0,
                other => panic!("code {other}"),
            };
            tests += 1;
            at += usize::from(if test { step.jt } else { step.jf });
        }
    }

    fn judge(number: libc::c_long, arguments: &[u64; 6]) -> u32 {
        run(ARCH, call(number), arguments).0
    }

    #[test]
    fn the_table_is_whole_and_in_order() {
        let rows: Vec<Vec<&str>> = CALLS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        for column in [1, 2] {
            let mut numbers: Vec<u32> = rows
                .iter()
                .filter(|row| row[column] != "-")
                .map(|row| row[column].parse().unwrap())
                .collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "a number that stands for two calls");
            assert!(all > 300 && numbers.iter().all(|n| *n < 470));
        }
        for row in &rows {
            assert!(Rule::of(row[3]).is_some() && row.len() > 4, "{row:?}");
            assert!(row[1] != "-" || row[2] != "-", "{row:?}");
        }
        assert_eq!(calls(CALLS).len(), {
            let column = if cfg!(target_arch = "x86_64") { 1 } else { 2 };
            rows.iter().filter(|row| row[column] != "-").count()
        });
    }

    #[test]
    fn every_call_is_answered_as_the_table_says_and_no_other_is_known() {
        let known = calls(CALLS);
        for number in 0..1000 {
            let rule = known.iter().find(|(known, _)| *known == number).map(|(_, rule)| *rule);
            let (answer, tests) = run(ARCH, number, &[0; 6]);
            match rule {
                None => assert_eq!(answer, ENOSYS, "{number}"),
                Some(Rule::Always(expected)) => assert_eq!(answer, expected, "{number}"),
                Some(_) => {}
            }
            assert!(tests <= 20, "{number}: {tests} tests");
            // x32, and the machine's other half.
            assert_eq!(run(ARCH, number | 0x4000_0000, &[0; 6]).0, ENOSYS);
            assert_eq!(run(0x4000_0003, number, &[0; 6]).0, KILL);
        }
    }

    #[test]
    fn the_numbers_are_those_of_this_machine() {
        let check = |number: libc::c_long, expected: u32| {
            assert_eq!(judge(number, &[0; 6]), expected, "{number}");
        };
        for number in [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_mknodat,
            libc::SYS_fchownat,
            libc::SYS_ptrace,
            libc::SYS_chroot,
            libc::SYS_futex,
            libc::SYS_io_submit,
            libc::SYS_seccomp,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_mseal,
        ] {
            check(number, ALLOW);
        }
        for number in [
            libc::SYS_bpf,
            libc::SYS_fanotify_init,
            libc::SYS_finit_module,
            libc::SYS_fsopen,
            libc::SYS_kexec_load,
            libc::SYS_keyctl,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_by_handle_at,
            libc::SYS_open_tree,
            libc::SYS_perf_event_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_pivot_root,
            libc::SYS_process_madvise,
            libc::SYS_quotactl,
            libc::SYS_reboot,
            libc::SYS_setns,
            libc::SYS_settimeofday,
            libc::SYS_swapon,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_userfaultfd,
        ] {
            check(number, EPERM);
        }
        for number in [
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_memfd_secret,
            libc::SYS_nfsservctl,
        ] {
            check(number, ENOSYS);
        }
    }

    #[test]
    fn arguments_decide() {
        let first = |number, value: libc::c_int| judge(number, &[value as u64, 0, 0, 0, 0, 0]);
        assert_eq!(first(libc::SYS_clone, libc::SIGCHLD), ALLOW);
        assert_eq!(first(libc::SYS_clone, libc::CLONE_NEWUSER), EPERM);
        assert_eq!(first(libc::SYS_clone, libc::CLONE_NEWNS | libc::CLONE_VM), EPERM);
        assert_eq!(first(libc::SYS_prlimit64, 0), ALLOW);
        assert_eq!(first(libc::SYS_prlimit64, 1), EPERM);
        assert_eq!(first(libc::SYS_personality, 0), ALLOW);
        assert_eq!(first(libc::SYS_personality, -1), ALLOW);
        assert_eq!(first(libc::SYS_personality, 1), EPERM);
        for family in 0..50 {
            let local = if family == libc::AF_UNIX { ALLOW } else { NO_FAMILY };
            assert_eq!(first(libc::SYS_socketpair, family), local, "{family}");
            let known = FAMILIES.contains(&family) || family == libc::AF_NETLINK;
            let expected = if known { ALLOW } else { NO_FAMILY };
            assert_eq!(first(libc::SYS_socket, family), expected, "{family}");
        }
        for protocol in 0..32 {
            let expected = if NETLINK.contains(&protocol) { ALLOW } else { NO_PROTOCOL };
            let arguments = [libc::AF_NETLINK as u64, 3, protocol as u64, 0, 0, 0];
            assert_eq!(judge(libc::SYS_socket, &arguments), expected, "{protocol}");
        }
        let request = |request: u64| judge(libc::SYS_ioctl, &[0, request, 0, 0, 0, 0]);
        assert_eq!(request(libc::TIOCSTI), EPERM);
        assert_eq!(request(libc::TIOCSTI | 1 << 32), EPERM, "the kernel takes 32 bits");
        assert_eq!(request(libc::TIOCLINUX), EPERM);
        assert_eq!(request(libc::TIOCGWINSZ), ALLOW);
    }

    #[test]
    fn owners_beyond_the_limits_are_asked_about() {
        let check = |number: libc::c_long, at: usize, uid: u32, gid: u32, expected: Option<u32>| {
            let mut arguments = [u64::MAX; 6];
            (arguments[at], arguments[at + 1]) = (uid.into(), gid.into());
            let answer = judge(number, &arguments);
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
