//! Histograms of durations, in nanoseconds.
//!
//! Below 32 ns each value has a bucket of its own; above, every power of two is cut into 16 equal
//! buckets. So a percentile is never below the true one, and at most a sixteenth above it. A
//! histogram takes 8 KiB. It has no lock: what is recorded while it is read may be seen in part.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Each power of two has 2^4 buckets.
const SUB_BITS: u32 = 4;

/// Enough for every `u64`.
const BUCKETS: usize = ((u64::BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// The bucket of a value.
fn bucket_of(nanos: u64) -> usize {
    let exponent = (u64::BITS - nanos.leading_zeros()).saturating_sub(SUB_BITS + 1);
    ((exponent as usize) << SUB_BITS) + (nanos >> exponent) as usize
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let exponent = (bucket >> SUB_BITS).saturating_sub(1);
    let first = ((bucket - (exponent << SUB_BITS)) as u64) << exponent;
    first + ((1 << exponent) - 1)
}

/// Counts durations. Any thread may record; see the module's header.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

/// How long something took: a histogram's summary. Times are in nanoseconds; percentiles are at most
/// 1/16 above the true ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean_ns: u64,
    /// Half took no longer.
    pub p50_ns: u64,
    /// Nine of ten took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// 999 of 1000 took no longer.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Histogram {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Histogram { buckets, sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        self.record_nanos(duration.as_nanos() as u64);
    }

    fn record_nanos(&self, nanos: u64) {
        self.buckets[bucket_of(nanos)].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
        if self.max.load(Relaxed) < nanos {
            self.max.fetch_max(nanos, Relaxed);
        }
    }

    /// The sum of all durations, in nanoseconds.
    pub fn total_nanos(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// What was recorded so far.
    pub fn summary(&self) -> Latency {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_ns = self.max.load(Relaxed);
        let at = |permille| percentile(&counts, count, permille).min(max_ns);
        Latency {
            count,
            mean_ns: self.total_nanos().checked_div(count).unwrap_or(0),
            p50_ns: at(500),
            p90_ns: at(900),
            p99_ns: at(990),
            p999_ns: at(999),
            max_ns,
        }
    }
}

/// The upper bound of the bucket in which the value is that `permille` of all do not exceed; 0 of none.
fn percentile(counts: &[u64], count: u64, permille: u64) -> u64 {
    let rank = (u128::from(count) * u128::from(permille)).div_ceil(1000);
    let mut passed = 0;
    let reached = counts.iter().position(|n| {
        passed += u128::from(*n);
        passed > 0 && passed >= rank
    });
    reached.map_or(0, upper_bound)
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Histogram").field(&self.summary()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_are_ascending_and_without_gaps() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1), u64::MAX);
        for bucket in 0..BUCKETS - 1 {
            let last = upper_bound(bucket);
            assert_eq!((bucket_of(last), bucket_of(last + 1)), (bucket, bucket + 1));
        }
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Histogram::new().summary(), Latency::default());
    }

    #[test]
    fn threads_lose_nothing() {
        let histogram = Histogram::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let histogram = &histogram;
                scope.spawn(move || (0..1000).for_each(|i| histogram.record_nanos(thread * 1000 + i)));
            }
        });
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.max_ns, summary.mean_ns), (4000, 3999, 1999));
    }

    /// Durations from nanoseconds to centuries.
    fn durations() -> impl Strategy<Value = Vec<u64>> {
        let one = (0u32..63, any::<u64>()).prop_map(|(bits, noise)| noise & ((2 << bits) - 1));
        prop::collection::vec(one, 1..400)
    }

    proptest! {
        #[test]
        fn percentiles_match_a_sorted_list(mut values in durations()) {
            let histogram = Histogram::new();
            values.iter().for_each(|nanos| histogram.record_nanos(*nanos));
            values.sort_unstable();
            let summary = histogram.summary();
            let found = [summary.p50_ns, summary.p90_ns, summary.p99_ns, summary.p999_ns];
            for (permille, found) in [500, 900, 990, 999].into_iter().zip(found) {
                let truth = values[(values.len() * permille).div_ceil(1000) - 1];
                prop_assert!(truth <= found && found - truth <= truth / 16, "{permille}: {truth}, {found}");
            }
            prop_assert_eq!(summary.count, values.len() as u64);
            prop_assert_eq!(Some(&summary.max_ns), values.last());
        }
    }
}
