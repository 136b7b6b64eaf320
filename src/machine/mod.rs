//! A machine that runs: how QEMU starts it, what is read on its console, what is asked inside, and
//! what a test of it comes to.
//!
//! ```text
//! hardware   QEMU's command line: the disk that is not written to, ports, sockets
//! button     its power button
//! console    what the machine prints, as far as there is room; panic, emergency, units that failed
//! agent      a script that answers inside: it comes from QEMU, and is on no disk
//! asked      what a test asks
//! question   the checks of a test as such scripts, and what their answers mean
//! refused    what a unit that failed could not write to
//! visit      from the start to the end: is it up, do the checks hold, does it end
//! ```
//! Whose QEMU it is, and what is on the disk, is the business of the room `boot`.

mod agent;
mod asked;
mod button;
mod console;
mod hardware;
mod question;
mod refused;
mod visit;

pub use asked::{Asked, Check};
pub use button::Button;
pub use hardware::{
    Accelerator, CONSOLE, CREDENTIAL_NAME, Credential, DataDisk, Hardware, Identity, MONITOR, Port,
};
pub use visit::{LOG, Patience, Trouble, Visit, Visited, answers, for_want_of_ticks, furnish};
