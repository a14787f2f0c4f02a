//! Sizes of blobs: seeded random numbers, and the laws that they are drawn from.

/// A seeded generator: Weyl steps, mixed (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `count`, or 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// A number above 0 and up to 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// From the normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// How large blobs are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Law {
    /// The logarithm is normally distributed.
    Lognormal { median: f64, sigma: f64 },
    /// Two sizes, each with half of the bytes.
    Mix { small: u64, large: u64 },
    /// Evenly from 1 byte on.
    Even { most: u64 },
}

/// No blob is larger.
const MOST: f64 = (256 << 20) as f64;

impl Law {
    pub(crate) const FIRST: Self = Self::Lognormal { median: 15_800.0, sigma: 0.99 };
    pub(crate) const SECOND: Self = Self::Lognormal { median: 65_536.0, sigma: 1.5 };

    pub(crate) fn name(&self) -> String {
        match *self {
            Self::Lognormal { median, sigma } if median < 65_536.0 => {
                format!("lognormal, median {} KB, sigma {sigma}", median / 1e3)
            }
            Self::Lognormal { median, sigma } => {
                format!("lognormal, median {} KiB, sigma {sigma}", median / 1024.0)
            }
            Self::Mix { small, large } => format!("{} MiB and {} KiB", large >> 20, small >> 10),
            Self::Even { most } => format!("up to {} MB", most / 1_000_000),
        }
    }

    /// The size of a blob in bytes.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        match *self {
            Self::Lognormal { median, sigma } => {
                (median * (sigma * random.normal()).exp()).clamp(1.0, MOST) as u64
            }
            Self::Mix { small, large } => {
                let turn = random.below(usize::try_from(large / small + 1).unwrap_or(1));
                if turn == 0 { large } else { small }
            }
            Self::Even { most } => 1 + random.below(usize::try_from(most).unwrap_or(1)) as u64,
        }
    }
}
