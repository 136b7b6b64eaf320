//! The hot paths of a build, each alone: `cargo bench --bench hot [-- FILES [STEPS]]`.
//!
//! A tree of FILES files (20,000) of 4 KiB, half text and half random, and a recipe of STEPS steps
//! (500). Printed: the best and the median wall time of one pass in this process, and what that is
//! a second. The files are in the page cache.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use bake::context::Context;
use bake::digest::Digest;
use bake::layer::{self, Compression, Form, Limits, Merged, TarReader};
use bake::leak::{self, Needles};
use bake::plan;
use bake::plan::key::{Common, StepInputs};
use bake::recipe::{self, Inputs};
use bake::secret::{Mask, Masked, Secrets, Value};
use bake::step::Op;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

const ROUNDS: usize = 7;
const SIZE: usize = 4096;
const EPOCH: i64 = 1_700_000_000;

fn main() {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (files, steps) =
        (asked.first().copied().unwrap_or(20_000), asked.get(1).copied().unwrap_or(500));
    let dir = tempfile::tempdir().expect("a directory");
    println!("| what | best | median | a second |");
    println!("|---|---|---|---|");
    context(dir.path(), files);
    layers(dir.path());
    paper(steps);
}

/// Measures `work`, which does `amount` of `unit`; what `before` does each time is not counted.
fn row<T>(
    what: &str,
    amount: f64,
    unit: &str,
    mut before: impl FnMut(),
    mut work: impl FnMut() -> T,
) {
    let pass = |_| {
        before();
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..ROUNDS).map(pass).collect();
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    println!(
        "| {what} | {:.2} ms | {:.2} ms | {:.0} {unit} |",
        times[0] * 1e3,
        median * 1e3,
        amount / median
    );
}

fn context(dir: &Path, files: usize) {
    let mut random = StdRng::seed_from_u64(1);
    let old = fs::FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(3600));
    for number in 0..files {
        let directory = dir.join(format!("tree/{}", number / 500));
        fs::create_dir_all(&directory).expect("mkdir");
        let mut bytes =
            format!("line {number} of a text that goes on\n").repeat(SIZE / 30).into_bytes();
        bytes.truncate(SIZE);
        random.fill_bytes(&mut bytes[SIZE / 2..]);
        let path = directory.join(format!("file-{number}"));
        fs::write(&path, &bytes).expect("write");
        fs::File::open(&path).expect("open").set_times(old).expect("touch");
    }
    let op = Op::Copy {
        stage: None,
        from: vec!["tree/".into()],
        to: "/srv/".into(),
        owner: "0:0".into(),
        mode: None,
        exclude: vec![],
    };
    let cache = dir.join("cache");
    fs::create_dir(&cache).expect("mkdir");
    let open = || Context::open(dir, &[], &[]).expect("open").with_stat_cache(cache.clone());
    let forget = || {
        fs::remove_dir_all(&cache).expect("remove");
        fs::create_dir(&cache).expect("mkdir");
    };
    let count = files as f64;
    let digest = || open().digest(&op).expect("read");
    row("context: listed, read and hashed", count, "files", forget, digest);
    // What changed less than two seconds ago is read again.
    std::thread::sleep(Duration::from_secs(3));
    digest();
    row("context: nothing changed", count, "files", || (), digest);
}

fn layers(dir: &Path) {
    let tree = dir.join("tree");
    let mut tar = vec![];
    let entries = layer::pack(&tree, EPOCH, &mut tar).expect("pack").entries as f64;
    let megabytes = tar.len() as f64 / 1e6;
    row(
        "layer: packed",
        megabytes,
        "MB",
        || (),
        || layer::pack(&tree, EPOCH, &mut io::sink()).expect("pack"),
    );
    row("layer: hashed", megabytes, "MB", || (), || Digest::of(&tar));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, how) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let mut blob = vec![];
        layer::compress(&mut &tar[..], &mut blob, how, threads).expect("compress");
        let pack =
            || layer::compress(&mut &tar[..], &mut io::sink(), how, threads).expect("compress");
        row(&format!("layer: {name}, {threads} threads"), megabytes, "MB", || (), pack);
        let unpack = || {
            let mut plain = layer::decompress_as(Box::new(&blob[..]), how).expect("decompress");
            io::copy(&mut plain, &mut io::sink()).expect("decompress")
        };
        row(&format!("layer: out of {name}"), megabytes, "MB", || (), unpack);
    }
    leaks(&tar);
    let out = dir.join("out");
    let clear = || {
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).expect("mkdir");
    };
    row("layer: unpacked", entries, "names", clear, || {
        layer::unpack(&mut &tar[..], &out, Form::Tree, &Limits::default()).expect("unpack")
    });
    row(
        "layer: merged in memory",
        entries,
        "names",
        || (),
        || {
            let mut merged = Merged::new();
            let mut reader = TarReader::new(&tar[..], &Limits::default());
            let mut keep = |_: &layer::Entry, data: &mut dyn io::Read| {
                io::copy(data, &mut io::sink()).map_err(|source| layer::Error::Read { source })
            };
            merged.apply(&mut reader, &mut keep).expect("merge");
            merged.len()
        },
    );
}

/// Searches a layer for secrets, on one thread, and masks output.
fn leaks(tar: &[u8]) {
    let megabytes = tar.len() as f64 / 1e6;
    let value = |n: usize| Value::new(format!("a-secret-{n}/0123456789+abcdefghij").into_bytes());
    for count in [1, 3, 10] {
        let secrets: Secrets =
            (0..count).map(|n| (format!("s{n}"), value(n).expect("a value"))).collect();
        let needles = Needles::new(&secrets).expect("needles");
        let search = || leak::layer(tar, &needles).expect("a tar").len();
        row(&format!("leak: searched for {count} secrets"), megabytes, "MB", || (), search);
    }
    let secrets: Secrets = [("s".to_owned(), value(0).expect("a value"))].into_iter().collect();
    let masked = Arc::new(Masked::new(&secrets).expect("a mask"));
    let line = b"[ 42%] Building C object src/CMakeFiles/thing.dir/a/b/c.c.o and so on and on";
    row(
        "secret: masked lines",
        1e5,
        "lines",
        || (),
        || {
            let mut mask = Mask::new(Arc::clone(&masked));
            let mut bytes = 0;
            for _ in 0..100_000 {
                mask.line(line, &mut |line| bytes += line.len());
            }
            bytes
        },
    );
}

fn paper(steps: usize) {
    let head = "[image]\nname = \"hot\"\nversion = \"1\"\n[base]\nscratch = true\n[vars]\ncolour = \"red\"\n";
    let step = |n: usize| {
        format!(
            "[[step]]\nrun = \"make part-{n} colour={{{{ colour }}}}\"\nenv = {{ PART = \"{n}\" }}\nworkdir = \"/src\"\n"
        )
    };
    let text = head.to_owned() + &(0..steps).map(step).collect::<String>();
    let count = steps as f64;
    let read = || recipe::read(&text, &Inputs::default()).expect("a recipe");
    row("recipe: read and checked", count, "steps", || (), read);
    let recipe = read();
    row("plan: drawn", count, "steps", || (), || plan::draw(&recipe));
    let plan = plan::draw(&recipe);
    let common = Common {
        platform: "linux/amd64".to_owned(),
        epoch: EPOCH,
        compression: "gzip",
        environment: Default::default(),
    };
    let below: Vec<Digest> = (0..steps.min(100)).map(|n| Digest::of(n.to_string())).collect();
    row(
        "key: of every step, over 100 layers",
        count,
        "steps",
        || (),
        || {
            for node in &plan.nodes {
                let inputs = StepInputs {
                    ops: &node.ops,
                    files: vec![],
                    network: &bake::reach::Reach::default(),
                    packages: vec![],
                    downloads: vec![],
                };
                black_box(common.step(&inputs).above(&below).key());
            }
        },
    );
}
