//! What a step wants besides its own root: files of a stage, to copy or to look at, and directories
//! of the context, to look at. They come as a tar, whose bytes depend on what is in it alone.

use serde_json::json;

use crate::digest::Digest;
use crate::step::{Mount, Op, called};

/// Something that a step wants of a stage or of the context.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What it is called in the key and for people: `/out/hello of stage build`.
    pub name: String,
    /// The stage; none: the context.
    pub stage: Option<String>,
    /// The `Copy` that takes it, with paths below the root it is taken from.
    pub op: Op,
    /// What the one file is called that becomes the destination itself.
    pub single: String,
    /// All of the stage, shown as it is and not copied: named by its layers.
    pub whole: bool,
}

/// Returns what the operation wants, in order.
pub fn of(op: &Op) -> Vec<Wanted> {
    match op {
        Op::Copy { from, stage: Some(stage), to, mode, exclude, .. } => {
            let name = format!("{} of {}", from.join(" "), called(stage));
            let op = take(from.clone(), to, *mode, exclude.clone());
            let single = to.rsplit('/').next().unwrap_or_default().to_owned();
            vec![Wanted { name, stage: Some(stage.clone()), op, single, whole: false }]
        }
        Op::Exec { mounts, .. } | Op::Script { mounts, .. } => mounts.iter().map(mounted).collect(),
        Op::Configure(tool) => {
            let whole = tool.layer().map(|stage| Wanted {
                name: stage.to_owned(),
                stage: Some(stage.to_owned()),
                op: take(vec![], "/", None, vec![]),
                single: String::new(),
                whole: true,
            });
            tool.mounts.iter().map(mounted).chain(whole).collect()
        }
        _ => vec![],
    }
}

fn mounted(mount: &Mount) -> Wanted {
    let path = mount.path.to_string_lossy().into_owned();
    let name = match &mount.stage {
        Some(stage) => format!("{path} of {}", called(stage)),
        None => format!("{path} at {}", mount.at),
    };
    let op = take(vec![path], "/x", None, vec![]);
    Wanted { name, stage: mount.stage.clone(), op, single: "file".to_owned(), whole: false }
}

/// Returns the copy that takes `from`, with paths below the root.
fn take(from: Vec<String>, to: &str, mode: Option<u32>, exclude: Vec<String>) -> Op {
    let below = |path: String| {
        let path = path.trim_start_matches('/');
        if path.is_empty() { ".".to_owned() } else { path.to_owned() }
    };
    let from = from.into_iter().map(below).collect();
    Op::Copy { from, stage: None, to: to.to_owned(), owner: "0:0".to_owned(), mode, exclude }
}

impl Wanted {
    /// Names this by the layers `chain`, where all of them are shown.
    pub fn by_layers(&self, chain: &[Digest]) -> Option<Digest> {
        self.whole.then(|| Digest::of(json!(chain).to_string()))
    }

    /// Returns what names this of the layers `chain`, whatever they hold.
    pub fn record(&self, chain: &[Digest], epoch: i64) -> Digest {
        Digest::of(json!([1, self.op, self.single, chain, epoch]).to_string())
    }
}
