//! `puppet-masterless` and `chef-solo` provisioners as `puppet` and `chef` steps.

use std::path::Path;

use super::lower::Lower;
use super::node::{Block, Entry};
use super::value::Why;
use crate::convert::document::{Step, Value};

/// What is about where files lie while Packer runs, or how it starts programs there.
const NOTHING: &[&str] = &[
    "clean_staging_directory",
    "execute_command",
    "guest_os_type",
    "ignore_exit_codes",
    "prevent_sudo",
    "puppet_bin_dir",
    "staging_directory",
    "working_directory",
    "install_command",
    "skip_install",
    "version",
    "config_template",
];

impl Lower<'_, '_> {
    /// Converts a provisioner that applies a manifest.
    pub(super) fn puppet(&mut self, block: &Block) -> Result<(), Why> {
        let Some(node) = block.get("manifest_file") else {
            return Err(Why::Left("it has no `manifest_file`".to_owned()));
        };
        let manifest = self.scope.text(node)?;
        let manifest = self.below(&manifest)?;
        let directory = manifest.value();
        let directory = Path::new(&directory).parent().unwrap_or(Path::new(""));
        let mut keys = vec![("puppet", Value::Text(manifest.written()))];
        for entry in &block.entries {
            match entry.name.as_str() {
                "manifest_file" => {}
                "module_paths" => {
                    keys.extend(self.paths(entry)?.map(|paths| ("modules", paths)));
                }
                "hiera_config_path" => {
                    let path = self.scope.text(&entry.value)?;
                    let path = self.below(&path)?.value();
                    match Path::new(&path).strip_prefix(directory) {
                        Ok(path) => keys.push(("hiera", Value::text(path.to_string_lossy()))),
                        Err(_) => self.left(entry, "puppet", "it is beside the manifest or below"),
                    }
                }
                "extra_arguments" => {
                    let words = self.scope.texts(&entry.value)?;
                    let words = words.iter().map(|one| one.written()).collect();
                    keys.push(("args", Value::List(words)));
                }
                "facter" => self.left(entry, "puppet", "write `facts = { … }`"),
                _ => self.left(entry, "puppet", "see the keys of a `puppet` step"),
            }
        }
        self.configured(keys);
        Ok(())
    }

    /// Converts a provisioner that runs Chef without a server.
    pub(super) fn chef(&mut self, block: &Block) -> Result<(), Why> {
        let missing = |name: &str| Why::Left(format!("it has no `{name}`"));
        let paths = block.get("cookbook_paths").ok_or_else(|| missing("cookbook_paths"))?;
        let run_list = block.get("run_list").ok_or_else(|| missing("run_list"))?;
        let paths = self.scope.texts(paths)?;
        let [path] = paths.as_slice() else {
            let why = "a `chef` step has one directory of cookbooks, and this has several";
            return Err(Why::Left(why.to_owned()));
        };
        let path = self.below(path)?;
        let run_list = self.scope.texts(run_list)?.iter().map(|one| one.written()).collect();
        let keys = vec![
            ("chef", Value::Text(path.written())),
            ("run_list", Value::List(run_list)),
            ("tool", Value::text("image")),
        ];
        for entry in &block.entries {
            match entry.name.as_str() {
                "cookbook_paths" | "run_list" => {}
                "json" => self.left(entry, "chef", "write `attributes = { … }`"),
                _ => self.left(entry, "chef", "see the keys of a `chef` step"),
            }
        }
        let message = "the client of Chef or Cinc must be in the image: Packer installs it, no \
            step of a recipe does by itself";
        self.stage.remark(block.line, "chef", message);
        self.configured(keys);
        Ok(())
    }

    /// Returns paths below the context; nothing, where there are none.
    fn paths(&mut self, entry: &Entry) -> Result<Option<Value>, Why> {
        let texts = self.scope.texts(&entry.value)?;
        let paths = texts.iter().map(|one| self.below(one).map(|path| path.written()));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        Ok((!paths.is_empty()).then_some(Value::List(paths)))
    }

    /// Reports an option that has no key.
    fn left(&mut self, entry: &Entry, topic: &'static str, what: &str) {
        let name = &entry.name;
        if NOTHING.contains(&name.as_str()) {
            let message = format!("`{name}` is left out: the tool runs against the root itself");
            self.stage.note(entry.line, topic, message);
        } else {
            let message = format!("`{name}` is left out: {what}");
            self.stage.remark(entry.line, topic, message);
        }
    }

    /// Adds the step of a configuration tool.
    pub(super) fn configured(&mut self, mut keys: Vec<(&'static str, Value)>) {
        // What it fetches is not known.
        keys.push(("network", Value::Yes));
        self.stage.add(Step::new(keys));
        self.stage.state.plain_apt = false;
    }
}
