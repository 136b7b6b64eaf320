//! Keys: what a table of a recipe may hold, of which shape, with the documentation of each.
//!
//! Everything that knows keys reads these tables (the reader and its suggestions, the formatter's
//! order, the JSON Schema, the reference), so they cannot disagree. Order in a table is the order
//! of the reference and of `bake fmt`. A key that does nothing yet is in none; `later` names the
//! ones that people may have read about, for a better message.

use super::check::Check;

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// A string.
    Text(Check),
    /// A list of strings.
    List(Check),
    /// One string or a list of them.
    OneOrMany(Check),
    /// `true` or `false`.
    Boolean,
    /// Only `true`.
    Yes,
    /// A whole number within bounds, both included.
    Integer(i64, i64),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A string for the shell, or a list executed without one.
    Command,
    /// `sh`, `bash` or the whole list.
    Shell,
    /// `true`, `false`, `"host"`, or a list of what may be reached.
    Network,
    /// Names to strings or integers.
    Map(Check),
    /// Names to one or several texts each: what a name is, and what a text is.
    Lists(Check, Check),
    /// Names of variables to their values. Which those are and of which type, only who includes
    /// knows: the reader leaves it to that.
    Vars,
    /// Names to values of any type, for a program: the types are kept.
    Data,
    /// A list of integers or `"53/udp"`.
    Ports,
    /// One sha256, or a table of them by architecture.
    Sha256,
    /// A table of its own.
    Table(&'static Section),
    /// `true`, a command, or a list of several of both.
    Start,
    /// The name of a stage of the recipe.
    Stage,
    /// The name of a stage, or a table that names an image.
    From,
    /// Paths inside to paths of the context, or to `{ from = "stage", path = "/…" }`.
    Mounts,
    /// A list of paths inside, or of `{ to = "/…", id = "…", sharing = "…" }`.
    Caches,
    /// One value, to which other keys say the target; or a table of targets.
    Targets(&'static Targets),
}

/// What a step may put to one target or to several.
#[derive(Debug)]
pub(crate) struct Targets {
    /// The one value.
    pub(crate) one: Shape,
    /// In the table: what a target is.
    pub(crate) at: Check,
    /// What goes there.
    pub(crate) what: Check,
    /// Whether a list may go to one target.
    pub(crate) many: bool,
}

/// What a change of a key's value does to the keys of a build: whether layers are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The step is another: its layer is made anew, and the image with it.
    Step,
    /// Every layer is made anew.
    All,
    /// The image is another, the layers of its steps stay.
    Image,
    /// Nothing: what is stored stays as it is.
    Nothing,
}

impl Effect {
    /// Returns it as a sentence.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Step => "A change makes the layer of the step anew.",
            Self::All => "A change makes all layers anew.",
            Self::Image => "A change makes another image of the same layers.",
            Self::Nothing => "A change makes nothing anew.",
        }
    }
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// It says something of one target, and has no place beside a table of targets.
    pub(crate) of_one: bool,
    /// For people, shown by editors; whole sentences.
    pub(crate) doc: &'static str,
    /// Where it is not that of its table.
    pub(crate) effect: Option<Effect>,
}

impl Key {
    /// Returns the key as one that has no place beside a table of targets.
    pub(crate) const fn of_one_target(self) -> Self {
        Self { of_one: true, ..self }
    }

    /// Returns the key with an effect of its own.
    pub(crate) const fn with(self, effect: Effect) -> Self {
        Self { effect: Some(effect), ..self }
    }

    /// Returns the key as one that changes nothing of what is built.
    pub(crate) const fn without_effect(self) -> Self {
        self.with(Effect::Nothing)
    }
}

/// A table of keys: `[image]`, a kind of step, ….
#[derive(Debug)]
pub(crate) struct Section {
    /// As messages call it: `[image]`, ``a `run` step``.
    pub(crate) title: &'static str,
    /// The table's key, or the step's kind.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
    /// Keys of the reference that this version does not have.
    pub(crate) later: &'static [&'static str],
    /// What a change of one of its keys does.
    pub(crate) effect: Effect,
}

impl Section {
    /// Returns what a change of one of its keys does.
    pub(crate) fn effect_of(&self, key: &Key) -> Effect {
        key.effect.unwrap_or(self.effect)
    }

    /// Returns the key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

/// Returns a key that may be left out.
pub(crate) const fn may(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, of_one: false, doc, effect: None }
}

/// Returns a key that must be there.
pub(crate) const fn must(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, of_one: false, doc, effect: None }
}
