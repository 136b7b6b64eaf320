//! Programs in a finished image: the tests that decide whether it is published, `bake test`, `bake
//! run`, and shells for people.
//!
//! ```text
//! list        the tests of an image, as they are kept beside it
//! gate        image + tests ──► Checked, the only thing that can be published
//! machine     the tests that look at the image as a machine
//! test        one test: what it starts, what it looks at, what was printed
//! startable   whether what the config names is in the image
//! image       a stored image's layers, unpacked
//! container   a throwaway container of a stored image;  ports, attach: what leads into it
//! shell       a shell where something failed, or before it starts
//! ```

mod attach;
mod container;
mod datagrams;
mod error;
mod gate;
mod image;
mod list;
mod machine;
mod outcome;
mod ports;
mod shell;
mod startable;
mod stored;
mod test;

pub use container::{Container, Volume, run};
pub use error::{Error, Unstartable};
pub use outcome::Outcome;
pub use ports::{Protocol, Publish};
pub(crate) use ports::{during, listen};
pub use stored::Tested;

pub(crate) use attach::attached;
pub(crate) use error::unreadable;
pub(crate) use gate::{
    Bundle, Examined, Finished, Joined, booted, bundles, check, is_tested, joined, publish,
};
pub(crate) use image::{Layers, compression, read, tree_name, unpacked};
pub(crate) use list::Tests;
pub(crate) use machine::{Booted, Machine, Machines, NoMachines};
pub(crate) use outcome::outcome;
pub(crate) use shell::{Place, Rescue, Shells, watched};
pub(crate) use startable::Configured;
pub(crate) use stored::{stored, test};

pub use crate::store::TESTS_ANNOTATION;
