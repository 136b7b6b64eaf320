//! Checked values of the keys of one table, typed by their shape.
//!
//! A value that was wrong has been reported and is simply not there, but its key still counts as
//! given.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::check;
use super::value::{Command, Kept, MountSource, Start};
use crate::reach::Reach;

/// A text and the bytes of the recipe that say it.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
}

/// Where something goes, and what goes there.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// A path inside.
    pub(crate) at: Located,
    /// One, or several where the key allows it; never none.
    pub(crate) what: Vec<Located>,
}

/// A checked value.
#[derive(Debug)]
pub(crate) enum Checked {
    Text(String),
    List(Vec<Located>),
    Boolean(bool),
    Integer(i64),
    Map(BTreeMap<String, String>),
    Command(Command),
    Table(Fields),
    /// With their names, where they have any.
    Starts(Vec<(Option<String>, Start)>),
    Mounts(BTreeMap<String, MountSource>),
    Caches(Vec<Kept>),
    Targets(Vec<Placed>),
    Data(serde_json::Value),
}

/// A key that was given.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: Range<usize>,
    pub(crate) span: Range<usize>,
    pub(crate) value: Option<Checked>,
}

/// The keys of one table.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub(crate) found: BTreeMap<&'static str, Field>,
}

impl Fields {
    /// Returns the key, right or wrong.
    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        self.found.get(name)
    }

    fn value(&self, name: &str) -> Option<&Checked> {
        self.found.get(name)?.value.as_ref()
    }

    /// Returns a string.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Checked::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Returns a list's entries; of a single string, that one.
    pub(crate) fn entries(&self, name: &str) -> Vec<Located> {
        match (self.value(name), self.get(name)) {
            (Some(Checked::List(list)), _) => list.clone(),
            (Some(Checked::Text(text)), Some(field)) => {
                vec![Located { text: text.clone(), span: field.span.clone() }]
            }
            _ => vec![],
        }
    }

    /// Returns a list's texts; empty where it was not given.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.entries(name).into_iter().map(|entry| entry.text).collect()
    }

    /// Returns a list's texts, if given.
    pub(crate) fn given_list(&self, name: &str) -> Option<Vec<String>> {
        self.value(name).map(|_| self.list(name))
    }

    /// Returns a boolean.
    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Checked::Boolean(yes) => Some(*yes),
            _ => None,
        }
    }

    /// Returns what may be reached.
    pub(crate) fn reach(&self, name: &str) -> Option<Reach> {
        Some(match self.value(name)? {
            Checked::Boolean(true) => Reach::Internet,
            // The only text there is.
            Checked::Text(_) => Reach::Host,
            Checked::List(list) => {
                Reach::only(list.iter().filter_map(|entry| entry.text.parse().ok()).collect())
            }
            _ => Reach::None,
        })
    }

    /// Returns an integer; its bounds were checked.
    pub(crate) fn integer<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.value(name)? {
            Checked::Integer(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Returns names and texts; empty where it was not given.
    pub(crate) fn map(&self, name: &str) -> BTreeMap<String, String> {
        match self.value(name) {
            Some(Checked::Map(map)) => map.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns a command.
    pub(crate) fn command(&self, name: &str) -> Option<Command> {
        match self.value(name)? {
            Checked::Command(command) => Some(command.clone()),
            _ => None,
        }
    }

    /// Returns what a test starts; empty where it was not given.
    pub(crate) fn starts(&self, name: &str) -> Vec<(Option<String>, Start)> {
        match self.value(name) {
            Some(Checked::Starts(starts)) => starts.clone(),
            _ => vec![],
        }
    }

    /// Returns what is mounted where; empty where it was not given.
    pub(crate) fn mounts(&self, name: &str) -> BTreeMap<String, MountSource> {
        match self.value(name) {
            Some(Checked::Mounts(mounts)) => mounts.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns the directories that are kept; empty where the key was not given.
    pub(crate) fn caches(&self, name: &str) -> Vec<Kept> {
        match self.value(name) {
            Some(Checked::Caches(caches)) => caches.clone(),
            _ => vec![],
        }
    }

    /// Returns a table of targets, in the order written; `None` where it is none.
    pub(crate) fn targets(&self, name: &str) -> Option<Vec<Placed>> {
        match self.value(name)? {
            Checked::Targets(targets) => Some(targets.clone()),
            _ => None,
        }
    }

    /// Returns values of any type.
    pub(crate) fn data(&self, name: &str) -> Option<serde_json::Value> {
        match self.value(name)? {
            Checked::Data(data) => Some(data.clone()),
            _ => None,
        }
    }

    /// Returns a duration.
    pub(crate) fn duration(&self, name: &str) -> Option<Duration> {
        check::duration(&self.text(name)?).ok()
    }

    /// Returns permission bits.
    pub(crate) fn mode(&self, name: &str) -> Option<u32> {
        check::mode(&self.text(name)?).ok()
    }

    /// Returns a table's keys.
    pub(crate) fn table(&self, name: &str) -> Option<&Fields> {
        match self.value(name)? {
            Checked::Table(fields) => Some(fields),
            _ => None,
        }
    }
}
