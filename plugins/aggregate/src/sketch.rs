//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007) with Ertl's estimator (2017): the number of distinct values, in
//! 4096 registers, with a standard error of 1.04 / sqrt(4096) = 1.6 %.

use crate::slots::{Hasher, mixed};

/// The number of registers, as a power of 2.
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
/// What a register can hold: the remaining bits may all be 0.
const LARGEST: usize = 64 - BITS as usize + 1;
/// The number of registers that are kept as a list: it is no larger than all of them as bytes.
const LISTED: usize = REGISTERS / 4;

/// Hashes values in the same way in all runs, so that a recording gives the numbers of the run that was recorded.
pub(crate) fn hasher() -> Hasher {
    Hasher::new(0)
}

/// An estimate of the number of distinct values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sketch {
    /// The registers that are not 0, as numbers `register << 8 | value`, ascending.
    few: Vec<u32>,
    /// All registers, or empty.
    all: Vec<u8>,
}

impl Sketch {
    /// Adds a value by its hash; returns by how many bytes the sketch has grown.
    pub(crate) fn add(&mut self, hash: u64) -> usize {
        // Products of successive numbers are spread more evenly than random numbers are.
        let hash = mixed(hash);
        let register = (hash >> (64 - BITS)) as u32;
        let value = (hash << BITS | 1 << (BITS - 1)).leading_zeros() as u8 + 1;
        if let Some(held) = self.all.get_mut(register as usize) {
            *held = value.max(*held);
            return 0;
        }
        let place = self.few.partition_point(|item| item >> 8 < register);
        let item = register << 8 | u32::from(value);
        if let Some(held) = self.few.get_mut(place).filter(|held| **held >> 8 == register) {
            *held = item.max(*held);
            return 0;
        }
        if self.few.len() < LISTED {
            self.few.insert(place, item);
            return size_of::<u32>();
        }
        self.all = vec![0; REGISTERS];
        for item in std::mem::take(&mut self.few).into_iter().chain([item]) {
            self.all[(item >> 8) as usize] = item as u8;
        }
        0
    }

    /// Returns the bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.few.len() * size_of::<u32>() + self.all.len()
    }

    /// Returns the estimate.
    pub(crate) fn estimate(&self) -> u64 {
        let mut counts = [0u32; LARGEST + 1];
        counts[0] = (REGISTERS - self.few.len() - self.all.len()) as u32;
        for value in self.few.iter().map(|item| *item as u8).chain(self.all.iter().copied()) {
            counts[usize::from(value).min(LARGEST)] += 1;
        }
        let registers = REGISTERS as f64;
        let mut sum = registers * tau(1.0 - f64::from(counts[LARGEST]) / registers);
        for count in counts[1..LARGEST].iter().rev() {
            sum = 0.5 * (sum + f64::from(*count));
        }
        sum += registers * sigma(f64::from(counts[0]) / registers);
        (registers * registers / (2.0 * std::f64::consts::LN_2) / sum).round() as u64
    }
}

fn sigma(part: f64) -> f64 {
    if part >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (part, 1.0, part);
    loop {
        power *= power;
        let before = sum;
        sum += power * factor;
        factor += factor;
        if sum <= before {
            return sum;
        }
    }
}

fn tau(part: f64) -> f64 {
    if part <= 0.0 || part >= 1.0 {
        return 0.0;
    }
    let (mut root, mut factor, mut sum) = (part, 1.0, 1.0 - part);
    loop {
        root = root.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - root) * (1.0 - root) * factor;
        if sum >= before {
            return sum / 3.0;
        }
    }
}
