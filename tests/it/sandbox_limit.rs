//! Programs that take too much of the machine: each is ended by the limit that it reached, and a job
//! of another build beside it goes on.

use std::thread;
use std::time::{Duration, Instant};

use bake::job::{Action, Ended, Job};
use bake::sandbox::{Allowance, Amount, Failure, Reached, Resource};

use crate::sandbox_lab::{Lab, Ran, exec, sh};

const MIB: u64 = 1 << 20;

fn memory(mib: u64) -> Allowance {
    Allowance { memory: Some(Amount::Bytes(mib * MIB)), ..Allowance::default() }
}

fn disk(mib: u64) -> Allowance {
    Allowance { disk: Some(Amount::Bytes(mib * MIB)), ..Allowance::default() }
}

fn processes(number: u64) -> Allowance {
    Allowance { processes: Some(number), ..Allowance::default() }
}

fn output(mib: u64) -> Allowance {
    Allowance { output: Some(Amount::Bytes(mib * MIB)), ..Allowance::default() }
}

fn perl(script: &str) -> Action {
    Action::Exec(exec(&["perl", "-e", script]))
}

fn run(lab: &Lab, action: Action, allowance: Allowance) -> Ran {
    lab.run(Job { allowance, ..lab.job(vec![action]) })
}

/// Runs what goes too far, and sees that it is ended by this limit, soon, while another build does
/// its work.
#[track_caller]
fn ended(action: Action, allowance: Allowance, resource: Resource, allowed: u64) -> Option<()> {
    let other = thread::spawn(|| {
        let lab = Lab::new()?;
        let script = "for n in 1 2 3 4 5 6 7 8; do sleep 0.1; echo $n > /tmp/$n; done; cat /tmp/8";
        Some(run(&lab, sh(script), Allowance::default()).line().to_owned())
    });
    let lab = Lab::new()?;
    let begun = Instant::now();
    let ran = run(&lab, action, allowance);
    let Ended::Failed { how: Failure::Reached(reached), .. } = &ran.ended else {
        panic!("{ran:#?}");
    };
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    let Reached { resource: found, used, allowed: limit } = *reached;
    assert_eq!((found, limit), (resource, allowed), "{reached:?}");
    assert!(used >= allowed, "{reached:?}");
    assert_eq!(other.join().unwrap().as_deref(), Some("8"));
    // What is left of it would be seen by the next.
    let next = run(&lab, sh("ls /proc | grep -c '^[0-9]'"), allowance);
    assert!(next.line().parse::<u32>().unwrap() <= 5, "{next:#?}");
    Some(())
}

#[test]
fn userns_a_program_that_takes_memory_is_ended() {
    let hog = "my @a; for (1 .. 3000) { push @a, 'x' x (1 << 20) } sleep 60";
    ended(perl(hog), memory(150), Resource::Memory, 150 * MIB);
}

#[test]
fn userns_many_that_take_memory_are_ended() {
    let hogs = "for (1 .. 8) { next if fork; my @a; for (1 .. 40) { push @a, 'x' x (1 << 20) } \
        sleep 60; exit } sleep 60";
    ended(perl(hogs), memory(150), Resource::Memory, 150 * MIB);
}

#[test]
fn userns_memory_file_systems_are_memory() {
    for place in ["/tmp", "/dev/shm"] {
        let fill = format!("dd if=/dev/zero of={place}/x bs=1M count=600 2>/dev/null; sleep 60");
        ended(sh(&fill), memory(150), Resource::Memory, 150 * MIB);
    }
    // It has ended by itself by then: what it leaves is seen.
    ended(sh("dd if=/dev/zero of=/tmp/x bs=1M count=600"), memory(20), Resource::Memory, 20 * MIB);
}

#[test]
fn userns_files_in_memory_without_a_name_are_memory() {
    let create = libc::SYS_memfd_create;
    let hog = format!(
        "my $n = 'x'; my $f = syscall({create}, $n, 0); open(my $h, '>&=', $f) or die; \
            syswrite $h, 'x' x (1 << 20) for 1 .. 600; sleep 60"
    );
    ended(perl(&hog), memory(150), Resource::Memory, 150 * MIB);
}

#[test]
fn userns_memory_that_several_share_counts_once() {
    let Some(lab) = Lab::new() else { return };
    let script = "my $a = 'x' x (60 << 20); for (1 .. 10) { next if fork; sleep 1; exit } \
        1 while wait > 0; print qq(done\\n)";
    assert_eq!(run(&lab, perl(script), memory(200)).line(), "done");
}

#[test]
fn userns_a_fork_bomb_is_ended() {
    let bomb = "b() { b | b & }; b; sleep 60";
    ended(sh(bomb), processes(100), Resource::Processes, 100);
    let slow = "fork while 1";
    ended(perl(slow), processes(30), Resource::Processes, 30);
}

#[test]
fn userns_programs_within_their_limits_are_left_alone() {
    let Some(lab) = Lab::new() else { return };
    let all = Allowance {
        memory: Some(Amount::Bytes(200 * MIB)),
        processes: Some(30),
        disk: Some(Amount::Bytes(100 * MIB)),
        output: Some(Amount::Bytes(MIB)),
    };
    let script = "for (1 .. 20) { next if fork; sleep 1; exit } 1 while wait > 0; \
        open(my $f, '>', '/file'); syswrite $f, 'x' x (40 << 20); \
        open(my $t, '>', '/tmp/file'); syswrite $t, 'x' x (30 << 20); sleep 1; print 'y' x 900000";
    assert_eq!(run(&lab, perl(script), all).ok().out.concat().len(), 900_000);
}

#[test]
fn userns_a_program_that_fills_the_disk_is_ended() {
    let fill = |to: &str, then: &str| {
        sh(&format!("dd if=/dev/zero of={to} bs=1M count=400 2>/dev/null; {then}"))
    };
    ended(fill("/var/x", "sleep 60"), disk(60), Resource::Disk, 60 * MIB);
    ended(fill("/tmp/x", "sleep 60"), disk(60), Resource::Disk, 60 * MIB);
    // However quick it is.
    ended(fill("/var/x", "true"), disk(60), Resource::Disk, 60 * MIB);
    let many = "perl -e 'for my $n (1 .. 3000) { mkdir qq(/var/$n); open(my $f, q(>), \
        qq(/var/$n/f)); syswrite $f, q(x) x 131072 } sleep 60'";
    ended(sh(many), disk(60), Resource::Disk, 60 * MIB);
}

#[test]
fn userns_files_without_a_name_fill_the_disk_too() {
    let hog = "open(my $f, '>', '/var/x') or die; unlink '/var/x'; \
        syswrite $f, 'x' x (1 << 20) for 1 .. 400; sleep 60";
    ended(perl(hog), disk(60), Resource::Disk, 60 * MIB);
}

#[test]
fn userns_holes_take_no_room() {
    let Some(lab) = Lab::new() else { return };
    let sparse = "open(my $f, '>', '/sparse') or die; truncate $f, 10 << 30; sleep 1; \
        print -s '/sparse', qq(\\n)";
    assert_eq!(run(&lab, perl(sparse), disk(60)).line(), (10_u64 << 30).to_string());
    let punch = libc::SYS_fallocate;
    let script = format!(
        "open(my $f, '>', '/file') or die; for my $n (0 .. 4) {{ \
            syswrite $f, 'x' x (40 << 20); \
            syscall({punch}, fileno $f, 3, $n * (40 << 20), 40 << 20) and die qq($!); }} \
            sleep 1; print qq(done\\n)"
    );
    assert_eq!(run(&lab, perl(&script), disk(100)).line(), "done");
}

#[test]
fn userns_a_flood_of_output_is_ended() {
    ended(sh("yes"), output(1), Resource::Output, MIB);
    // Also where it has an end.
    ended(perl("print 'x' x (3 << 20)"), output(1), Resource::Output, MIB);
    // And in the background.
    let Some(lab) = Lab::new() else { return };
    let actions = vec![Action::Start(exec(&["yes"])), Action::Still(Duration::from_secs(60))];
    let ran = lab.run(Job { allowance: output(1), ..lab.job(actions) });
    assert!(
        matches!(&ran.ended, Ended::Failed { how: Failure::Reached(reached), .. }
            if reached.resource == Resource::Output),
        "{:?}",
        ran.ended
    );
}

#[test]
fn userns_programs_in_the_background_have_the_same_limits() {
    let Some(lab) = Lab::new() else { return };
    let hog = "my @a; for (1 .. 3000) { push @a, 'x' x (1 << 20) } sleep 60";
    let actions =
        vec![Action::Start(exec(&["perl", "-e", hog])), Action::Still(Duration::from_secs(60))];
    let ran = lab.run(Job { allowance: memory(150), ..lab.job(actions) });
    assert!(
        matches!(&ran.ended, Ended::Failed { how: Failure::Reached(reached), .. }
            if reached.resource == Resource::Memory),
        "{ran:#?}"
    );
}
