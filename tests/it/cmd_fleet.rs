//! `bake fleet`: many reports, one picture; nothing is dropped without a word.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::lab::{Lab, Run};
use crate::tier;

/// A report as `bake drift --json` writes it, with a change as large as real ones.
fn report(host: &str, version: &str, verdict: &str, time: &str) -> String {
    let changes = if verdict == "drifted" {
        json!([{"path": "/etc/motd", "change": "changed", "what": ["content"]}])
    } else {
        json!([])
    };
    let digest = bake::digest::Digest::of(version);
    let claims = format!("web:{version}");
    let counts = json!({"compared": 7121, "added": 0, "removed": 0, "changed": changes.as_array().map(Vec::len)});
    json!({"v": 1, "type": "drift", "verdict": verdict, "name": "web", "version": version, "digest": digest, "claims": claims, "host": host,
        "root": "/", "time": time, "counts": counts, "skipped": [], "unreadable": [], "changes": changes})
    .to_string()
}

const TIME: &str = "2024-11-01T10:00:00Z";

fn object(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.err);
    serde_json::from_str(run.out.trim()).expect("one object")
}

/// Ten thousand machines, one file each, in directories; and the same as lines of one stream.
#[test]
fn ten_thousand_reports_make_a_histogram() {
    let lab = Lab::new();
    let mut lines = String::new();
    for n in 0..10_000 {
        let (version, verdict) = match n {
            0..7_000 => ("1.0.0", "exact"),
            7_000..9_900 => ("2.0.0", "exact"),
            9_900..9_997 => ("10.0.0", "exact"),
            _ => ("2.0.0", "drifted"),
        };
        let text = report(&format!("host-{n}"), version, verdict, TIME);
        lab.write(&format!("reports/{}/{n}.json", n % 10), &text);
        lines += &text;
        lines.push('\n');
    }
    lab.write("all.jsonl", &lines);
    let expected = "\
10000 machines, reported 2024-11-01T10:00:00Z

web
  1.0.0   ████████████████████████████████████████    7000
  2.0.0   ████████████████▒                           2903  2900 exact, 3 drifted
  10.0.0  █                                             97

█ exact 9997   ▒ drifted 3
drifted  host-9997  web:2.0.0, 1 difference
drifted  host-9998  web:2.0.0, 1 difference
drifted  host-9999  web:2.0.0, 1 difference
";
    for place in ["reports", "all.jsonl"] {
        let printed = lab.bake(["fleet", place]);
        assert_eq!(
            (printed.code, printed.out.as_str(), printed.err.as_str()),
            (0, expected, ""),
            "{place}"
        );
    }
    let mut command = lab.command(["fleet", "-", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bake starts");
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("write");
    let fleet: Value =
        serde_json::from_slice(&child.wait_with_output().expect("an end").stdout).expect("JSON");
    assert_eq!(
        (&fleet["v"], &fleet["type"], &fleet["machines"]),
        (&1.into(), &"fleet".into(), &10_000.into())
    );
    assert_eq!(
        fleet["groups"][1],
        json!({"name": "web", "version": "2.0.0", "exact": 2900, "drifted": 3, "unknown": 0, "unchecked": 0})
    );
    assert_eq!(fleet["astray"].as_array().map(Vec::len), Some(3));
    assert_eq!(fleet["notes"], json!([]));
    // The same reports twice are the same machines.
    let twice = object(&lab.bake(["fleet", "reports", "all.jsonl", "--json"]));
    assert_eq!((&twice["machines"], &twice["reports"]), (&10_000.into(), &20_000.into()));
    assert_eq!(
        (&twice["notes"][0]["kind"], &twice["notes"][0]["count"]),
        (&"older".into(), &10_000.into())
    );
}

#[test]
fn everything_odd_is_reported() {
    let lab = Lab::new();
    let good = |host: &str, version: &str| report(host, version, "exact", TIME);
    lab.write("in/a.json", &good("a", "1"));
    lab.write("in/a-old.json", &good("a", "0").replace("2024", "2023"));
    lab.write(
        "in/b.json",
        &format!("{}\nnot JSON\n{{\"v\":1,\"type\":\"note\",\"message\":\"x\"}}\n", good("b", "1")),
    );
    lab.write("in/c.txt", "some text\nof two lines\n");
    lab.write("in/d.json", &good("d", "1").replace("2024", "2999"));
    lab.write("in/e.json", &good("e", "1").replace("\"claims\":\"web:1\"", "\"claims\":\"db:3\""));
    lab.write("in/f.json", &good("f", "1").replace("\"host\":\"f\"", "\"host\":null"));
    lab.write("in/g.json", &good("g", "1").replace("\"v\":1", "\"v\":7"));
    let other = bake::digest::Digest::of("other").to_string();
    lab.write(
        "in/h.json",
        &good("h", "1").replace(&bake::digest::Digest::of("1").to_string(), &other),
    );
    lab.write(
        "in/i.json",
        r#"{"v":1,"name":"web","version":"1","base":"scratch","created":"2024-11-01T10:00:00Z"}"#,
    );
    lab.write("in/.hidden", "not looked at");
    std::os::unix::fs::symlink("/etc/passwd", lab.path("in/link")).expect("link");
    let fleet = object(&lab.bake(["fleet", "in", "--json"]));
    assert_eq!(fleet["machines"], 7, "{fleet}");
    assert_eq!(fleet["verdicts"], json!({"exact": 6, "drifted": 0, "unknown": 0, "unchecked": 1}));
    let notes: Vec<String> = fleet["notes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|note| format!("{} {} {}", note["kind"], note["count"], note["examples"]))
        .collect();
    let first = bake::digest::Digest::of("1").short();
    let mut digests = [format!("{} on 5", first), format!("{} on 1", &other[7..19])];
    digests.sort();
    assert_eq!(
        notes,
        [
            r#""unreadable" 1 ["in/link"]"#.to_owned(),
            r#""not-json" 2 ["in/b.json:2","in/c.txt"]"#.to_owned(),
            r#""not-a-report" 1 ["in/b.json:3"]"#.to_owned(),
            r#""newer" 1 ["in/g.json"]"#.to_owned(),
            r#""older" 1 ["in/a-old.json"]"#.to_owned(),
            r#""future" 1 ["in/d.json"]"#.to_owned(),
            r#""other-image" 1 ["in/e.json"]"#.to_owned(),
            r#""no-host" 1 ["in/f.json"]"#.to_owned(),
            format!(r#""two-digests" 1 ["web:1: {}"]"#, digests.join(", ")),
        ]
    );
    let plain = lab.bake(["fleet", "in"]);
    for part in [
        "not counted:",
        "  2 not JSON: in/b.json:2, in/c.txt",
        "  1 from the future: in/d.json",
        "to be looked at:",
    ] {
        assert!(plain.err.contains(part), "{part}: {}", plain.err);
    }
}

#[test]
fn what_is_named_must_be_there() {
    let lab = Lab::new();
    fs::create_dir(lab.path("empty")).expect("mkdir");
    let gone = lab.bake(["fleet", "gone"]);
    assert_eq!((gone.code, gone.out.as_str()), (1, ""), "{}", gone.err);
    assert!(gone.err.contains("gone"), "{}", gone.err);
    assert_eq!(lab.bake(["fleet"]).code, 2);
    let empty = lab.bake(["fleet", "empty"]);
    assert_eq!((empty.code, empty.out.as_str()), (1, "0 machines\n"), "{}", empty.err);
    // A fifo is not waited for.
    let fifo = lab.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("mkfifo");
    assert_eq!(lab.bake(["fleet", "fifo"]).code, 1);
    fs::rename(&fifo, lab.path("empty/fifo")).expect("mv");
    let unread = lab.bake(["fleet", "empty", "--json"]);
    let first = unread.out.lines().next().expect("an object");
    let first: Value = serde_json::from_str(first).expect("JSON");
    assert_eq!((unread.code, &first["notes"][0]["kind"]), (1, &json!("unreadable")));
}

#[test]
fn hostile_reports_stay_text() {
    let lab = Lab::new();
    let text = report("h\u{1b}[2J\n</svg>", "1", "drifted", TIME)
        .replace("\"web\"", "\"w\\u001b]0;x\\u0007<b>\"");
    lab.write("in/\u{1b}[31m\n.json", "no");
    lab.write("in/x.json", &text);
    let printed = lab.bake(["fleet", "in", "--svg", "fleet.svg"]);
    assert_eq!(printed.code, 0, "{}", printed.err);
    for text in [&printed.out, &printed.err] {
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
    assert!(!lab.bake(["fleet", "in", "--json"]).out.contains('\u{1b}'));
    let svg = fs::read_to_string(lab.path("fleet.svg")).expect("read");
    assert!(!svg.contains('\u{1b}') && !svg.contains("<b>"), "{svg}");
}

#[test]
fn tools_python_reads_the_svg() {
    if !tier::tool("python3") {
        return;
    }
    let lab = Lab::new();
    let lines: Vec<String> = (0..73)
        .map(|n| {
            let (version, verdict) = if n < 50 {
                ("1.0.0", "exact")
            } else {
                ("2.0.0", if n < 70 { "exact" } else { "drifted" })
            };
            report(&format!("h{n}<&>"), version, verdict, TIME)
        })
        .collect();
    lab.write("all.jsonl", &lines.join("\n"));
    assert_eq!(lab.bake(["fleet", "all.jsonl", "--svg", "fleet.svg"]).code, 0);
    let script = "import sys, xml.etree.ElementTree as e; r = e.parse('fleet.svg').getroot(); \
        print(len(r.findall('{http://www.w3.org/2000/svg}g')), r.find('{http://www.w3.org/2000/svg}title').text)";
    let mut python = std::process::Command::new("python3");
    let read = crate::lab::run(python.args(["-c", script]).current_dir(lab.path("")));
    assert_eq!((read.code, read.out.as_str()), (0, "2 73 machines\n"), "{}", read.err);
    // Drawn again it is the same picture.
    let first = fs::read(lab.path("fleet.svg")).expect("read");
    assert_eq!(lab.bake(["fleet", "all.jsonl", "--svg", "fleet.svg"]).code, 0);
    assert_eq!(fs::read(lab.path("fleet.svg")).expect("read"), first);
}

/// What `bake drift` writes is what `bake fleet` reads.
#[test]
fn reports_of_drift_are_read() {
    let lab = Lab::new();
    lab.write(
        "root/usr/lib/bake/image.json",
        r#"{"v":1,"name":"web","version":"9","base":"x","created":"x"}"#,
    );
    lab.write("root/etc/hostname", "alpha\n");
    let drifted = lab.bake(["drift", "--root", "root", "--json"]);
    lab.write("in/alpha.json", &drifted.out);
    let fleet = object(&lab.bake(["fleet", "in", "--json"]));
    assert_eq!(fleet["verdicts"], json!({"exact": 0, "drifted": 0, "unknown": 1, "unchecked": 0}));
    assert_eq!(
        (&fleet["astray"][0]["host"], &fleet["astray"][0]["version"]),
        (&"alpha".into(), &"9".into())
    );
    assert_eq!(fleet["notes"], json!([]));
}
