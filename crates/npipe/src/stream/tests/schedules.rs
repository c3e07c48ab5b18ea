//! Random schedules, each replayable from what a failure prints.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::world::{Plan, run};

fn plans() -> impl Strategy<Value = Plan> {
    let switches = (any::<u64>(), any::<u16>());
    // Without a quota every write waits for its reader.
    let quota = prop_oneof![1 => Just(0), 9 => 0..6000_usize];
    let sizes = (quota, 1usize..20_000, 1usize..20_000);
    let steps = proptest::collection::vec((any::<u8>(), any::<u16>()), 0..60);
    (switches, sizes, steps).prop_map(|((seed, bits), (quota, read, write), steps)| {
        Plan::new(seed, bits, [quota, read, write], steps)
    })
}

/// How many schedules to run: `NPIPE_SCHEDULES`, else enough for a quick look.
pub(super) fn schedules() -> u32 {
    std::env::var("NPIPE_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

/// The seed of the whole corpus: `NPIPE_SEED`, else a fixed one, so that a run is the same
/// everywhere.
pub(super) fn seed() -> u64 {
    std::env::var("NPIPE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[test]
fn every_schedule_delivers_everything_and_wakes_everyone() {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let config = Config { cases: schedules(), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    if let Err(error) = runner.run(&plans(), |plan| {
        run(plan);
        Ok(())
    }) {
        panic!("NPIPE_SEED={} NPIPE_SCHEDULES={}: {error}", seed(), schedules());
    }
}
