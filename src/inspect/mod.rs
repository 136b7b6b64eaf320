//! Looks at what a store holds, and only looks: lists, one image in full, and whether all of it is what it says it is.
//!
//! Everything comes back as data that can be written as JSON; `ui` makes text of it.

mod list;
mod show;
mod verify;

pub use list::Row;
pub use list::list;
pub use show::Details;
pub use show::LayerRow;
pub use show::Member;
pub use show::StepRow;
pub use show::show;
pub use verify::Level;
pub use verify::Problem;
pub use verify::Report;
pub use verify::verify;
