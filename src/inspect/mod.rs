//! Looks at what a store holds, and only looks: lists, one image in full, and whether all of it is what it says it is; and at machines, whether
//! they are what they claim to be.
//!
//! Everything comes back as data that can be written as JSON; `ui` makes text of it.

mod change;
mod drift;
mod error;
mod fleet;
mod list;
mod picture;
mod show;
mod verify;

pub use change::Change;
pub use change::How;
pub use change::Inside;
pub use drift::Claim;
pub use drift::Counts;
pub use drift::Options as DriftOptions;
pub use drift::Report as DriftReport;
pub use drift::Unread;
pub use drift::Verdict;
pub use drift::claim;
pub use drift::drift;
pub use drift::unknown;
pub use error::Error;
pub use fleet::Fleet;
pub use fleet::Group;
pub use fleet::Kind as NoteKind;
pub use fleet::Note;
pub use fleet::Tally;
pub use fleet::draw;
pub use fleet::fleet;
pub use list::Row;
pub use list::list;
pub use picture::Picture;
pub use show::Details;
pub use show::LayerRow;
pub use show::Member;
pub use show::StepRow;
pub use show::show;
pub use verify::Level;
pub use verify::Problem;
pub use verify::Report;
pub use verify::verify;
