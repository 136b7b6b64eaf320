//! What a step reaches from a network of its own, and what it does not: as root and as a user.

use std::time::{Duration, Instant};

use bake::gateway::Refusal;
use bake::job::Ended;
use bake::sandbox::Cancel;

use crate::gateway_lab::{
    EARLY, ECHO, MUCH, SILENT, SINK, SOURCE, fine, outside, perl, sh, with_network,
};
use crate::sandbox_lab::{Lab, alive};

/// A script that sends a line to each, and prints what comes back: the line, or nothing.
fn asks(targets: &[(&str, u16)]) -> String {
    let one = |(host, port): &(&str, u16)| {
        format!(
            "(exec 3<>/dev/tcp/{host}/{port} && echo hello >&3 && read -t 5 answer <&3 && echo \
                {host}:{port} $answer || echo {host}:{port} no) 2>/dev/null\n"
        )
    };
    targets.iter().map(one).collect()
}

#[test]
fn root_public_hosts_are_reached_by_name_and_address() {
    outside("gateway_reach::root_public_hosts_are_reached_by_name_and_address", || {
        let Some(lab) = Lab::new() else { return };
        // 8081 is a port that nobody listens on before.
        let targets = [
            ("web.example", 80),
            ("web.example", 8081),
            ("MIXED.example", 443),
            ("203.0.113.8", ECHO),
            ("198.51.100.7", 22),
            ("both.example", 80),
            ("six.example", 80),
        ];
        let done = fine(sh(&lab, &[], &asks(&targets)));
        let wanted: Vec<String> =
            targets.iter().map(|(host, port)| format!("{host}:{port} hello")).collect();
        assert_eq!(done.ran.out, wanted, "{:?}", done.report);
        assert!(done.took < Duration::from_secs(5), "{:?}", done.took);
        assert_eq!(done.refused(), [""; 0]);
        let web = &done.report.reached.iter().find(|one| one.port == 8081).expect("noted");
        assert_eq!((web.host.as_str(), web.connections), ("web.example", 1));
        assert_eq!((web.sent, web.received), (6, 6));
        assert_eq!(done.report.reached.len(), targets.len());
    });
}

#[test]
fn root_the_host_and_its_networks_are_out_of_reach() {
    outside("gateway_reach::root_the_host_and_its_networks_are_out_of_reach", || {
        let Some(lab) = Lab::new() else { return };
        let private = [
            ("10.1.2.3", 80),
            ("169.254.169.254", 80),
            ("192.168.77.1", 443),
            ("172.16.5.5", 22),
            ("100.64.0.9", 8081),
            ("db.example", 5432),
            ("inner.example", 80),
            ("metadata.example", 80),
            ("198.18.0.1", 80),
            ("198.19.7.7", 80),
        ];
        let done = fine(sh(&lab, &[], &asks(&private)));
        let wanted: Vec<String> =
            private.iter().map(|(host, port)| format!("{host}:{port} no")).collect();
        assert_eq!(done.ran.out, wanted);
        assert_eq!(done.report.reached, []);
        assert_eq!(done.report.refused.len(), private.len(), "{:?}", done.refused());
        let db = "the step asked for db.example:5432, which is at 10.1.2.3: not a public address";
        assert!(done.refused().iter().any(|one| one == db), "{:?}", done.refused());
        // Its own loopback is not the host's, and not refused.
        let own = fine(sh(&lab, &[], &asks(&[("127.0.0.1", 80), ("localhost", 80)])));
        assert_eq!(own.ran.out, ["127.0.0.1:80 no", "localhost:80 no"]);
        assert_eq!(own.refused(), [""; 0]);
    });
}

#[test]
fn root_a_list_is_all_that_is_reached() {
    outside("gateway_reach::root_a_list_is_all_that_is_reached", || {
        let Some(lab) = Lab::new() else { return };
        let list = ["web.example:80", "*.web.example", "10.0.0.0/8:5432", "198.51.100.7"];
        let targets = [
            ("web.example", 80),
            ("files.web.example", 443),
            ("10.1.2.3", 5432),
            ("198.51.100.7", 22),
            ("web.example", 443),
            ("other.example", 80),
            ("unknown.example", 80),
            ("203.0.113.7", 80),
            ("10.1.2.3", 80),
            ("db.example", 5432),
        ];
        let done = fine(sh(&lab, &list, &asks(&targets)));
        let wanted: Vec<String> = targets
            .iter()
            .enumerate()
            .map(|(n, (host, port))| {
                format!("{host}:{port} {}", if n < 4 { "hello" } else { "no" })
            })
            .collect();
        assert_eq!(done.ran.out, wanted);
        assert_eq!(done.reached().len(), 4);
        assert_eq!(done.report.refused.len(), 6);
        assert!(done.report.refused.iter().all(|one| one.why == Refusal::NotListed));
        assert!(done.refused().contains(
            &"the step asked for other.example:80, which `network` does not list".into()
        ));
        // A name that leads to a private address needs that address too.
        let rebound = fine(sh(&lab, &["db.example"], &asks(&[("db.example", 5432)])));
        assert_eq!(rebound.ran.out, ["db.example:5432 no"]);
        assert!(matches!(rebound.report.refused[0].why, Refusal::NotPublic(_)));
        let both = ["db.example", "10.1.2.3"];
        let listed = fine(sh(&lab, &both, &asks(&[("db.example", 5432)])));
        assert_eq!(listed.ran.out, ["db.example:5432 hello"]);
        // Of two addresses the one that may be reached is taken.
        let one = fine(sh(&lab, &["both.example"], &asks(&[("both.example", 80)])));
        assert_eq!(one.ran.out, ["both.example:80 hello"]);
    });
}

#[test]
fn root_what_has_no_way_out_says_so_at_once() {
    outside("gateway_reach::root_what_has_no_way_out_says_so_at_once", || {
        let Some(lab) = Lab::new() else { return };
        // ENETUNREACH is 101. A datagram, one to a name that resolves, a raw packet by its head,
        // ICMP, and IPv6.
        let script = "
            socket(my $u, 2, 2, 0) or die; print 'udp ', (connect($u, at('203.0.113.7', 80)) ? 'sent' : $!+0), \"\\n\";
            socket(my $n, 2, 2, 0) or die; print 'name ', (connect($n, at('web.example', 53)) ? 'sent' : $!+0), \"\\n\";
            socket(my $i, 2, 3, 1) or die; print 'icmp ', (send($i, \"\\x08\\0\\0\\0\\0\\0\\0\\0\", 0, at('203.0.113.7', 0)) ? 'sent' : $!+0), \"\\n\";
            my $ip = pack('C C n n n C C n a4 a4', 0x45, 0, 28, 0, 0, 64, 17, 0, \"\\0\\0\\0\\0\", pack('C4', 203, 0, 113, 7));
            socket(my $r, 2, 3, 255) or die; print 'raw ', (send($r, $ip . pack('n4', 1, 53, 8, 0), 0, at('203.0.113.7', 0)) ? 'sent' : $!+0), \"\\n\";
            my $six = pack('S n N a16 N', 10, 80, 0, pack('H32', '20010db8000000000000000000000007'), 0);
            socket(my $v, 10, 1, 0) or die; print 'six ', (connect($v, $six) ? 'sent' : $!+0), \"\\n\";
        ";
        let done = fine(perl(&lab, &["*"], script));
        assert_eq!(done.ran.out, ["udp 101", "name 101", "icmp 101", "raw 101", "six 101"]);
        assert!(done.took < Duration::from_secs(3), "{:?}", done.took);
        assert_eq!((done.report.reached.len(), done.report.refused.len()), (0, 0));
        // Packets made by hand, past the routes, where the filter of system calls lets anybody make
        // some: nothing forwards them.
        let script = "
            socket(my $p, 17, 2, 0x0008) or (print(0), exit);
            my $to = pack('S n i S C C a8', 17, 0x0800, 77, 0, 0, 6, \"\\x02\\0\\0\\0\\0\\x01\\0\\0\");
            my $ip = pack('C C n n n C C n a4 a4', 0x45, 0, 28, 0, 0, 64, 17, 0, pack('C4', 198, 18, 0, 2), pack('C4', 203, 0, 113, 53));
            print send($p, $ip . pack('n4', 5353, 53, 8, 0), 0, $to) ? 'sent' : $!, \"\\n\";
            socket(my $u, 2, 2, 0); bind($u, pack('S n a4 x8', 2, 5353, \"\\0\\0\\0\\0\")); my $r = ''; vec($r, fileno($u), 1) = 1;
            print scalar select($r, undef, undef, 0.3), \"\\n\";
        ";
        let done = fine(perl(&lab, &[], script));
        assert_eq!(done.ran.out.last().map(String::as_str), Some("0"), "{:?}", done.ran);
    });
}

#[test]
fn root_names_that_do_not_exist_are_unknown() {
    outside("gateway_reach::root_names_that_do_not_exist_are_unknown", || {
        let Some(lab) = Lab::new() else { return };
        let script = "for (qw(web.example no.such.example localhost)) { my @h = gethostbyname($_); \
            print \"$_ \", (@h ? join('.', unpack('C4', $h[4])) : 'none'), \"\\n\" } \
            my $back = gethostbyaddr(pack('C4', 198, 18, 1, 0), 2); print $back // 'none', \"\\n\";";
        let done = fine(perl(&lab, &[], script));
        assert_eq!(
            done.ran.out,
            [
                "web.example 198.18.1.0",
                "no.such.example none",
                "localhost 127.0.0.1",
                "web.example"
            ]
        );
        // What is not listed is not looked up, and known by its name when it is asked for.
        let done = fine(perl(&lab, &["web.example"], "print to('no.such.example', 80)"));
        assert_eq!(
            done.refused(),
            ["the step asked for no.such.example:80, which `network` does not list"]
        );
        // Over TCP as well.
        let query = "abcd0100000100000000000003776562076578616d706c650000010001";
        let script = format!(
            "my $s = to('198.18.0.1', 53); ref $s or die $s; my $q = pack('H*', '{query}'); \
                syswrite($s, pack('n', length $q) . $q); sysread($s, my $a, 500); print unpack('H*', \
                substr($a, -4))"
        );
        assert_eq!(fine(perl(&lab, &[], &script)).out(), "c6120100");
    });
}

#[test]
fn root_much_is_carried_whole_both_ways() {
    outside("gateway_reach::root_much_is_carried_whole_both_ways", || {
        let Some(lab) = Lab::new() else { return };
        // Half-closed: the answer comes after the end of what was sent.
        let up = format!(
            "my $s = to('web.example', {SINK}); ref $s or die $s; my $all = join '', map {{ chr((($_ * 31) >> 3) \
                & 255) }} 0 .. 65535; my $left = {MUCH}; my $at = 0; while ($left > 0) {{ my $n = \
                syswrite($s, $all, 65536 - $at % 65536, $at % 65536) // die $!; $at += $n; $left -= $n }} \
                shutdown($s, 1); print <$s>"
        );
        let done = fine(perl(&lab, &["web.example"], &up));
        assert_eq!(done.out(), format!("{MUCH} 0"));
        assert_eq!(done.report.reached[0].sent, MUCH as u64);
        let down = format!(
            "my $s = to('web.example', {SOURCE}); ref $s or die $s; my $all = join '', map {{ chr((($_ * 31) >> 3) \
                & 255) }} 0 .. 65535; my ($got, $wrong) = (0, 0); my $b = ''; while (my $n = sysread($s, $b, \
                65536 - $got % 65536)) {{ $wrong++ if $b ne substr($all, $got % 65536, $n); $got += $n }} \
                print \"$got $wrong\""
        );
        let done = fine(perl(&lab, &[], &down));
        assert_eq!(done.out(), format!("{MUCH} 0"));
        assert_eq!(done.report.reached[0].received, MUCH as u64);
    });
}

#[test]
fn root_connections_end_as_their_ends_do() {
    outside("gateway_reach::root_connections_end_as_their_ends_do", || {
        let Some(lab) = Lab::new() else { return };
        let early = format!("exec 3<>/dev/tcp/web.example/{EARLY}; cat <&3; echo; echo over");
        assert_eq!(fine(sh(&lab, &[], &early)).ran.out, ["early", "over"]);
        // Nobody listens there: the connection breaks, and the report says why.
        let none = fine(perl(
            &lab,
            &[],
            "my $s = to('web.example', 4); print ref $s ? (defined sysread($s, my $b, 1) ? 'end' : $!+0) : $s",
        ));
        assert_eq!(none.out(), "104");
        let failed: Vec<String> =
            none.report.failed.iter().map(|(target, why)| format!("{target}: {why}")).collect();
        assert_eq!(failed, ["web.example:4: connection refused"]);
        // Refused by the list: broken off at once too.
        let refused = fine(perl(
            &lab,
            &["web.example:80"],
            "my $s = to('web.example', 443); print ref $s ? (defined sysread($s, my $b, 1) ? 'end' : $!+0) : $s",
        ));
        assert_eq!(refused.out(), "104");
    });
}

#[test]
fn root_two_hundred_connections_at_once() {
    outside("gateway_reach::root_two_hundred_connections_at_once", || {
        let Some(lab) = Lab::new() else { return };
        let script = format!(
            "my @s = map {{ my $s = to('web.example', {ECHO}); ref $s or die \"$_: $s\"; $s }} 1 .. 200; \
                for my $i (0 .. $#s) {{ syswrite($s[$i], \"line $i\\n\") or die $! }} my $good = 0; \
                for my $i (0 .. $#s) {{ my $s = $s[$i]; my $l = <$s>; $good++ if $l eq \"line $i\\n\" }} print $good"
        );
        let done = fine(perl(&lab, &[], &script));
        assert_eq!(done.out(), "200");
        assert_eq!(done.reached(), [("web.example".to_owned(), ECHO, 200)]);
        // Many ports, each new.
        let script = "my $n = 0; for my $p (20000 .. 20150) { my $s = to('203.0.113.7', $p); $n++ if ref $s || $s == 104 } print $n";
        let done = fine(perl(&lab, &[], script));
        assert_eq!(done.out(), "151");
        assert!(done.took < Duration::from_secs(10), "{:?}", done.took);
    });
}

#[test]
fn root_an_end_in_the_middle_leaves_nothing() {
    outside("gateway_reach::root_an_end_in_the_middle_leaves_nothing", || {
        let Some(lab) = Lab::new() else { return };
        let token = format!("token-{}", std::process::id());
        let script = format!(
            "exec 3<>/dev/tcp/web.example/{SILENT}; exec 4<>/dev/tcp/web.example/{SOURCE}; head -c \
                100000 <&4 >/dev/null; : {token}; cat <&3; sleep 600"
        );
        let cancel = Cancel::new().expect("a pipe");
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while alive(&token).is_empty() && begun.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                cancel.fire();
            });
            let done = with_network(&lab, &[], &["bash", "-c", &script], &cancel);
            assert!(matches!(done.ran.ended, Ended::Cancelled), "{:?}", done.ran);
        });
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert!(alive(&token).is_empty());
        let threads = || std::fs::read_dir("/proc/self/task").expect("ours").count();
        let until = Instant::now() + Duration::from_secs(10);
        let before = threads();
        let done = fine(sh(&lab, &[], &asks(&[("web.example", 80)])));
        assert_eq!(done.out(), "web.example:80 hello");
        while threads() > before && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(threads() <= before, "{} threads, {before} before", threads());
    });
}
