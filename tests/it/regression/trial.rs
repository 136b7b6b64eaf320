//! What was once reported wrong, as tests of what must hold: trial.
