//! Chance that can be repeated: a seed gives the same traffic on any machine and with any version.
//!
//! The generators of `rand` promise no such thing, so this is SplitMix64 (Steele, Lea, Flood 2014). It decides nothing that
//! must be secret.

#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed ^ mix(stream.wrapping_add(1))))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        // The 53 bits that a double holds exactly.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The bias of the multiplication is below 2^-32 for any `end` that traffic uses.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of 128 bits")
    }

    /// Any place in a list of this length; nothing in an empty one.
    pub fn place(&mut self, length: usize) -> Option<usize> {
        let end = u64::try_from(length).ok().filter(|end| *end > 0)?;
        usize::try_from(self.below(end)).ok()
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }
}

/// One bijective scramble of 64 bits.
pub fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        // Made with another implementation of SplitMix64; the first three are its published test vector.
        let drawn = |mut random: Random| [random.bits(), random.bits(), random.bits()];
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(drawn(Random(1_234_567)), published);
        let seeded = [2_837_033_464_341_919_905, 41_079_744_128_078_654, 17_174_375_652_205_655_575];
        assert_eq!(drawn(Random::new(1, 0)), seeded);
    }

    #[test]
    fn numbers_below_an_end_are_even_and_stay_below_it() {
        let mut random = Random::new(7, 3);
        let mut seen = [0_u32; 10];
        for _ in 0..100_000 {
            seen[usize::try_from(random.below(10)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let (mut first, mut second) = (Random::new(1, 0), Random::new(1, 1));
        assert!((0..1_000).all(|_| first.bits() != second.bits()));
    }
}
