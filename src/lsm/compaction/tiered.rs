//! Tiered compaction: few writes, more reads and space. Tables form sorted *runs*, newest first: each
//! table of L0 is one, and each level below is one. When there are too many runs, L0 and as many of
//! the levels as are no larger than what is merged already become one run.

use super::{Input, Job, Reason};
use crate::lsm::Options;
use crate::lsm::levels::Levels;
use crate::lsm::manifest::state::MAX_LEVEL;

/// The most runs that a volume should have, L0's tables and the levels together.
fn max_runs(options: &Options) -> usize {
    options.l0_compaction_trigger.max(1) + MAX_LEVEL / 2
}

/// The job that is due, if any.
pub(crate) fn pick(levels: &Levels, options: &Options) -> Option<Job> {
    let l0 = levels.level(0);
    let occupied = (1..=MAX_LEVEL).filter(|n| !levels.level(*n).is_empty()).count();
    let too_many = l0.len() >= options.l0_compaction_trigger || l0.len() + occupied > max_runs(options);
    (too_many && !l0.is_empty()).then(|| merge(levels, Reason::Runs))
}

/// L0 and the levels that are no larger than what is merged already, as one run. L0 must hold a table.
pub(super) fn merge(levels: &Levels, reason: Reason) -> Job {
    let l0 = levels.level(0);
    let occupied = (1..=MAX_LEVEL).filter(|n| !levels.level(*n).is_empty());
    let mut inputs: Vec<Input> = l0.iter().map(|table| (0, table.clone())).collect();
    let mut merged = levels.size(0);
    let mut output_level = MAX_LEVEL;
    for n in occupied {
        // A run stays apart while it is larger than what is merged, and the place above it is free.
        if n > 1 && levels.size(n) > merged {
            output_level = n - 1;
            break;
        }
        inputs.extend(levels.level(n).iter().map(|table| (n, table.clone())));
        merged += levels.size(n);
    }
    Job { inputs, output_level, reason }
}
