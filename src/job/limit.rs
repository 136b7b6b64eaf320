//! What a recipe and the command line say of limits, as the sandbox takes it.

use crate::sandbox::{self, Allowance};
use crate::step::{Amount, Limits};

/// Returns what programs with these limits may use.
pub(crate) fn allowance(limits: Limits) -> Allowance {
    let Limits { memory, processes, disk, output } = limits;
    let amount = |amount: Amount| match amount {
        Amount::Bytes(bytes) => sandbox::Amount::Bytes(bytes),
        Amount::Percent(percent) => sandbox::Amount::Percent(percent),
        Amount::Unlimited => sandbox::Amount::Unlimited,
    };
    Allowance {
        memory: memory.map(amount),
        processes,
        disk: disk.map(amount),
        output: output.map(amount),
    }
}
