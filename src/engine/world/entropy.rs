//! The source of random numbers. This is the only file that draws them.

use parking_lot::Mutex;

/// A source of randomness; with a seed it is the same every time.
#[derive(Debug)]
pub struct Entropy(Mutex<fastrand::Rng>);

impl Entropy {
    /// From the operating system.
    pub fn system() -> Self {
        Entropy(Mutex::new(fastrand::Rng::new()))
    }

    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Entropy(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// The next number in `0.0..1.0`.
    pub fn draw(&self) -> f64 {
        self.0.lock().f64()
    }

    /// Sixteen random hexadecimal digits: the salt of a new state file.
    pub fn salt(&self) -> String {
        format!("{:016x}", self.0.lock().u64(..))
    }
}
