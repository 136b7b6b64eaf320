//! `limits`: how much of the machine the programs of a step may use. It says nothing of what they
//! make, and is in no key.

pub use crate::schema::Amount;
use crate::schema::{Check, Effect, Fields, Key, Mistake, Section, Shape, amount, may, near};

/// Most processes: Linux has no more ids (`PID_MAX_LIMIT`).
const MOST_PROCESSES: i64 = 4_194_304;

/// `limits`.
pub(crate) const LIMITS: Key = may(
    "limits",
    Shape::Table(&LIMIT),
    "How much its programs may use; what uses more is ended, and the step fails. `--limit` of the \
        command line wins. Example: `limits.memory = \"2GiB\"`.",
)
.without_effect();

/// What there are limits of.
pub(crate) static LIMIT: Section = Section {
    title: "`limits`",
    name: "limits",
    doc: "How much the programs of a step may use. The time is `timeout`.",
    keys: &[
        may(
            "memory",
            Shape::Text(Check::Amount),
            "Memory of all processes together, with `/tmp` and shared memory. Default: `80%` of \
                the machine's. Examples: `2GiB`, `none`.",
        ),
        may(
            "processes",
            Shape::Integer(1, MOST_PROCESSES),
            "Processes and threads at a time. Default: 4096.",
        ),
        may(
            "disk",
            Shape::Text(Check::Amount),
            "Room for what the step changes and for `/tmp`. Default: `80%` of what is free, where \
                that is 1 GiB or more.",
        ),
        may(
            "output",
            Shape::Text(Check::Amount),
            "How much it may print. Default: `none`; of a log that grows beyond 64 MiB the middle \
                is left out.",
        ),
    ],
    later: &[],
    effect: Effect::Nothing,
};

/// How much programs may use; `None`: as nobody says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: Option<Amount>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Room on the disk.
    pub disk: Option<Amount>,
    /// What is printed.
    pub output: Option<Amount>,
}

impl Limits {
    /// Takes what the fields of a step or of `[defaults]` say.
    pub(crate) fn of(fields: &Fields) -> Self {
        let Some(table) = fields.table("limits") else { return Self::default() };
        let of = |name: &str| amount(&table.text(name)?).ok();
        Self {
            memory: of("memory"),
            processes: table.integer("processes"),
            disk: of("disk"),
            output: of("output"),
        }
    }

    /// Takes from `other` what is not given here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            processes: self.processes.or(other.processes),
            disk: self.disk.or(other.disk),
            output: self.output.or(other.output),
        }
    }

    /// Reads `memory=2GiB`, as `--limit` has it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = || LIMIT.keys.iter().map(|key| key.name);
        let (name, value) = text.split_once('=').ok_or_else(|| {
            format!("expected NAME=VALUE, such as memory=2GiB; the names are {}", list(names()))
        })?;
        let mut limits = Self::default();
        let of = || amount(value).map(Some).map_err(explain);
        match name {
            "memory" => limits.memory = of()?,
            "disk" => limits.disk = of()?,
            "output" => limits.output = of()?,
            "processes" => {
                let number = value.parse::<i64>().ok();
                let number = number.filter(|n| (1..=MOST_PROCESSES).contains(n));
                let wrong = || format!("expected a whole number from 1 to {MOST_PROCESSES}");
                limits.processes = Some(number.ok_or_else(wrong)?.unsigned_abs());
            }
            "time" => return Err("the time of a step is its `timeout` in the recipe".to_owned()),
            _ => {
                let like = near(name, names()).map(|near| format!(", did you mean {near}?"));
                let like = like.unwrap_or_default();
                return Err(format!(
                    "there is no limit {name}{like} (there are {})",
                    list(names())
                ));
            }
        }
        Ok(limits)
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A mistake on one line.
fn explain(mistake: Mistake) -> String {
    mistake.in_one_line()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_command_line() {
        let memory = Limits { memory: Some(Amount::Bytes(2 << 30)), ..Limits::default() };
        assert_eq!(Limits::parse("memory=2GiB"), Ok(memory));
        assert_eq!(Limits::parse("processes=50").unwrap().processes, Some(50));
        assert_eq!(Limits::parse("disk=none").unwrap().disk, Some(Amount::Unlimited));
        let check = |text: &str, expected: &str| {
            let why = Limits::parse(text).unwrap_err();
            assert!(why.contains(expected), "{text}: {why}");
        };
        check("memory", "expected NAME=VALUE");
        check("memory=lots", "a whole number and its unit");
        check("memory=0MiB", "more than nothing");
        check("processes=0", "from 1 to 4194304");
        check("procceses=5", "did you mean processes?");
        check("time=5s", "`timeout`");
        let both = memory.or(Limits { processes: Some(1), ..Limits::default() });
        assert_eq!((both.memory, both.processes), (memory.memory, Some(1)));
    }
}
