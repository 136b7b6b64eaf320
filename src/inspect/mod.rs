//! Looks at what a store holds, and only looks: lists, one image in full, what is not the same in
//! two, and whether all of it is what it says it is; and at machines, whether they are what they
//! claim to be.
//!
//! Everything comes back as data that can be written as JSON; `ui` makes text of it.

mod change;
mod diff;
mod drift;
mod error;
mod fleet;
mod list;
mod member;
mod order;
mod package;
mod picture;
mod show;
mod verify;

pub use change::Change;
pub use change::How;
pub use change::Inside;
pub use diff::Diff;
pub use diff::FileChange;
pub use diff::PackageChange;
pub use diff::Setting;
pub use diff::Side;
pub use diff::Step;
pub use diff::diff;
pub use drift::AtBoot;
pub use drift::Claim;
pub use drift::Counts;
pub use drift::Disk;
pub use drift::DiskRoot;
pub use drift::Living;
pub use drift::OnDisk;
pub use drift::Options as DriftOptions;
pub use drift::PartChange;
pub use drift::Place;
pub use drift::Report as DriftReport;
pub use drift::Shift;
pub use drift::Unread;
pub use drift::Verdict;
pub use drift::claim;
pub use drift::drift;
pub use drift::living;
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
pub use member::Member;
pub use picture::Picture;
pub use show::Details;
pub use show::DirectorySize;
pub use show::LayerRow;
pub use show::PackageSize;
pub use show::Sizes;
pub use show::StepRow;
pub use show::show;
pub use show::sizes;
pub use verify::Level;
pub use verify::Problem;
pub use verify::Report;
pub use verify::verify;
