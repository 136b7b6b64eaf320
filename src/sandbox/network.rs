//! What the kernel counted in a job's own network namespace.

use std::fs;

/// Returns how often something tried to leave this network namespace and could not: packets and
/// connections without a route, and datagrams to a port of its own loopback where nobody listens
/// (that is where the question for a name goes, where no other name server is configured).
///
/// The names are those of `/proc/net/snmp` (RFC 4293 `ipSystemStatsOutNoRoutes`, RFC 4113
/// `udpNoPorts`). What cannot be read counts as nothing.
pub(super) fn unreachable() -> u64 {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    count(&read("/proc/net/snmp"), &read("/proc/net/snmp6"))
}

fn count(snmp: &str, snmp6: &str) -> u64 {
    // Two lines a protocol: names, numbers.
    let lines: Vec<&str> = snmp.lines().collect();
    let v4 = |protocol: &str, name: &str| -> u64 {
        lines
            .chunks_exact(2)
            .filter(|pair| pair[0].split(' ').next() == Some(protocol))
            .flat_map(|pair| pair[0].split(' ').zip(pair[1].split(' ')))
            .filter(|(found, _)| *found == name)
            .filter_map(|(_, number)| number.parse::<u64>().ok())
            .sum()
    };
    let v6 = |name: &str| -> u64 {
        snmp6
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .filter(|(found, _)| *found == name)
            .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
            .sum()
    };
    v4("Ip:", "OutNoRoutes") + v4("Udp:", "NoPorts") + v6("Ip6OutNoRoutes") + v6("Udp6NoPorts")
}

/// Whether no interface of `/proc/net/dev` ever carried a packet. Then nobody was connected to
/// anybody (which would keep ports busy for a while), and nothing shows that anybody was there.
pub(super) fn is_silent() -> bool {
    fs::read_to_string("/proc/net/dev").is_ok_and(|dev| silent(&dev))
}

fn silent(dev: &str) -> bool {
    dev.lines().skip(2).all(|line| {
        line.split_once(':')
            .is_some_and(|(_, counts)| counts.split_whitespace().all(|count| count == "0"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_silent_while_every_counter_is_zero() {
        let head = "Inter-|   Receive   |  Transmit\n face |bytes packets|bytes packets\n";
        let check =
            |rows: &str, expected| assert_eq!(silent(&format!("{head}{rows}")), expected, "{rows}");
        check("    lo:       0       0    0 0\n", true);
        check("    lo: 0 0\n  sit0: 0 0\n", true);
        check("    lo:      56       1    0 0\n", false);
        check("    lo: 0 0\n  sit0: 0 1\n", false);
        check("nonsense\n", false);
    }

    #[test]
    fn what_could_not_leave_is_counted() {
        let snmp = "Ip: Forwarding OutNoRoutes ReasmTimeout\nIp: 1 2 9\nTcp: RtoMin \
            OutNoRoutes\nTcp: 7 7\nUdp: InDatagrams NoPorts\nUdp: 5 30\nUdpLite: InDatagrams \
            NoPorts\nUdpLite: 0 0\n";
        let snmp6 = "Ip6InReceives                   \t9\nIp6OutNoRoutes                  \t400\nUdp6NoPorts 5000\n";
        assert_eq!(count(snmp, snmp6), 5432);
        assert_eq!(count("", "odd"), 0);
    }
}
