//! How the ids of a container stand for ids of the host.

use std::fmt;

/// How much higher ids are outside than inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    /// Of most ids.
    pub by: u32,
    /// Where ids that are mapped another way begin outside; 0: there are none.
    pub from: u32,
    /// Of those.
    pub high: u32,
}

impl From<u32> for Shift {
    fn from(by: u32) -> Self {
        Self { by, ..Self::default() }
    }
}

impl Shift {
    /// Returns what an id of the host is inside. One below the shift belongs to the host: it
    /// becomes a huge one, which no image has.
    pub fn inside(self, id: u32) -> u32 {
        if self.from != 0 && id >= self.from { id - self.high } else { id.wrapping_sub(self.by) }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            0 => write!(f, "{}", self.by),
            from => write!(f, "{},{from},{}", self.by, self.high),
        }
    }
}
