//! The recipe that is being made: what it says, not yet as text.

use std::collections::{BTreeMap, BTreeSet};

/// A value of a key; texts are as a recipe writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    /// A list of texts and tables.
    Several(Vec<Value>),
    /// A list in which numbers need no quotes.
    Ports(Vec<String>),
    Yes,
    Number(u32),
    /// A table in one line.
    Table(Vec<(&'static str, Value)>),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// What a `run` says besides its command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) run_as: Option<String>,
    pub(super) workdir: Option<String>,
    pub(super) shell: Option<Vec<String>>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) mounts: BTreeMap<String, Value>,
    /// By their places: those, or tables that say more.
    pub(super) caches: BTreeMap<String, Value>,
    pub(super) secrets: BTreeSet<String>,
    /// By the variables they are in.
    pub(super) secret_env: BTreeMap<String, String>,
    pub(super) ssh: bool,
    pub(super) network: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Lines above it.
    pub(super) comments: Vec<String>,
    /// Its keys in their order; `run` has its options besides.
    pub(super) keys: Vec<(&'static str, Value)>,
    pub(super) options: Option<Options>,
}

impl Step {
    pub(super) fn new(keys: Vec<(&'static str, Value)>) -> Self {
        Self { comments: vec![], keys, options: None }
    }
}

/// A root: the image's or a stage's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Root {
    /// None: the image's.
    pub(super) name: Option<String>,
    pub(super) comments: Vec<String>,
    pub(super) base: Vec<(&'static str, Value)>,
    pub(super) defaults: Options,
    pub(super) steps: Vec<Step>,
}

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    /// None: whoever builds has to give it one.
    pub(super) value: Option<String>,
    pub(super) comments: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) comments: Vec<String>,
    pub(super) image: Vec<(&'static str, Value)>,
    pub(super) variables: Vec<Variable>,
    /// The image's own root comes first.
    pub(super) roots: Vec<Root>,
    pub(super) config: Vec<(&'static str, Value)>,
    pub(super) config_comments: Vec<String>,
    /// Tables of `[config]`, each a name and its entries.
    pub(super) config_maps: Vec<(&'static str, Vec<(String, String)>)>,
    /// Further tables, such as `[machine]` and `[[output]]`: headers and keys.
    pub(super) tables: Vec<(&'static str, Vec<(&'static str, Value)>)>,
}

impl Document {
    /// Moves what all runs of a root say alike to its defaults, and what all runs of all roots say
    /// alike to those of the recipe.
    pub(super) fn share_options(&mut self) {
        // What a single stage says stands in that stage.
        let with_runs = |root: &&Root| root.runs().next().is_some();
        let several = self.roots.iter().filter(with_runs).count() > 1;
        let main = self.roots.first().is_some_and(|root| with_runs(&root));
        let mut common = shared(self.roots.iter().flat_map(Root::runs));
        // A lone run says it best itself, but for the shell, which is nobody's concern.
        if self.roots.iter().flat_map(Root::runs).count() < 2 {
            common = common.map(|one| Options { shell: one.shell, ..Options::default() });
        }
        if let Some(common) = common.filter(|_| main || several) {
            self.roots.iter_mut().for_each(|root| root.take_away(&common));
            if let Some(main) = self.roots.first_mut() {
                main.defaults = common;
            }
        }
        for root in self.roots.iter_mut().skip(1) {
            if root.runs().count() < 2 {
                continue;
            }
            if let Some(common) = shared(root.runs()) {
                root.take_away(&common);
                root.defaults = common;
            }
        }
    }
}

impl Root {
    fn runs(&self) -> impl Iterator<Item = &Options> {
        self.steps.iter().filter_map(|step| step.options.as_ref())
    }

    fn take_away(&mut self, common: &Options) {
        for options in self.steps.iter_mut().filter_map(|step| step.options.as_mut()) {
            options.run_as.take_if(|_| common.run_as.is_some());
            options.workdir.take_if(|_| common.workdir.is_some());
            options.shell.take_if(|_| common.shell.is_some());
            options.env.retain(|name, _| !common.env.contains_key(name));
        }
    }
}

/// Returns what all of them say alike. What it sees
/// besides the root and the network stay with the step that needs them.
fn shared<'a>(mut all: impl Iterator<Item = &'a Options>) -> Option<Options> {
    let first = all.next()?;
    let mut common = Options {
        mounts: BTreeMap::new(),
        caches: BTreeMap::new(),
        secrets: BTreeSet::new(),
        secret_env: BTreeMap::new(),
        ssh: false,
        network: false,
        ..first.clone()
    };
    for one in all {
        common.run_as.take_if(|text| one.run_as.as_ref() != Some(text));
        common.workdir.take_if(|text| one.workdir.as_ref() != Some(text));
        // A command without a shell does not care.
        common.shell.take_if(|words| one.shell.as_ref().is_some_and(|other| other != words));
        common.env.retain(|name, value| one.env.get(name) == Some(value));
    }
    Some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(env: &[(&str, &str)], workdir: &str) -> Step {
        let env = env.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let workdir = Some(workdir.to_owned());
        let options = Options { env, workdir, ..Options::default() };
        Step { options: Some(options), ..Step::new(vec![("run", Value::text("x"))]) }
    }

    #[test]
    fn what_all_runs_say_alike_stands_once() {
        let main = Root { steps: vec![run(&[("A", "1")], "/m")], ..Root::default() };
        let steps =
            vec![run(&[("A", "1"), ("B", "2")], "/s"), run(&[("A", "1"), ("B", "2")], "/s")];
        let stage = Root { name: Some("s".to_owned()), steps, ..Root::default() };
        let mut document = Document { roots: vec![main, stage], ..Document::default() };
        document.share_options();
        let [main, stage] = document.roots.as_slice() else { panic!() };
        assert_eq!(main.defaults.env.len(), 1);
        assert_eq!(main.defaults.workdir, None);
        assert_eq!(stage.defaults.env.keys().collect::<Vec<_>>(), ["B"]);
        assert_eq!(stage.defaults.workdir.as_deref(), Some("/s"));
        assert!(stage.runs().all(|run| run.env.is_empty() && run.workdir.is_none()));
        assert_eq!(main.steps[0].options.as_ref().unwrap().workdir.as_deref(), Some("/m"));
    }
}
