use picopay_shared::slot::SLOT_COUNT;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn dealt(dealt: usize, shards: usize) -> Holdings {
    let count = usize::from(SLOT_COUNT);
    let owners = (0..count).map(|slot| ((slot + 1) * dealt - 1) / count).collect();
    Holdings { shards, owners, rows: vec![1; count] }
}

fn any_holdings() -> impl Strategy<Value = Holdings> {
    let count = usize::from(SLOT_COUNT);
    (1_usize..=9, 1_usize..=9).prop_flat_map(move |(dealt, more)| {
        let shards = dealt.max(more);
        // Runs as well as single slots, since real holdings are runs that moves have cut.
        let owners = vec((0..dealt, 1_usize..600), 1..80).prop_map(move |runs| {
            let all = runs.iter().cycle().flat_map(|(owner, length)| std::iter::repeat_n(*owner, *length));
            all.take(count).collect::<Vec<_>>()
        });
        let rows = prop_oneof![
            4 => vec(400_u64..600, count),
            1 => vec(prop_oneof![9 => Just(0), 1 => 0_u64..100_000], count),
            1 => Just(vec![0; count]),
        ];
        (owners, rows).prop_map(move |(owners, rows)| Holdings { shards, owners, rows })
    })
}

/// Those above the rounded-up share, or what is missing to the rounded-down one.
fn fewest(now: &Holdings) -> usize {
    let counts = now.slots_per_shard();
    let (low, up) = (now.owners.len() / now.shards, now.owners.len().div_ceil(now.shards));
    let above: usize = counts.iter().map(|count| count.saturating_sub(up)).sum();
    let missing: usize = counts.iter().map(|count| low.saturating_sub(*count)).sum();
    above.max(missing)
}

fn moved(moves: &[Move]) -> usize {
    moves.iter().map(|one| one.slots.len()).sum()
}

fn assert_moves_are_real(now: &Holdings, moves: &[Move]) {
    let mut seen = vec![false; now.owners.len()];
    for one in moves {
        assert!(one.from != one.to && one.slots.is_sorted() && !one.slots.is_empty());
        for slot in &one.slots {
            assert_eq!(now.owners[usize::from(*slot)], one.from);
            assert!(!std::mem::replace(&mut seen[usize::from(*slot)], true), "slot {slot} moves once");
        }
    }
}

fn runs(holdings: &Holdings) -> usize {
    (0..holdings.shards).map(|shard| runs_of(&holdings.owners, shard).len()).sum()
}

#[test]
fn every_number_of_shards_grows_to_the_next_with_the_fewest_moves_and_few_ranges() {
    for shards in 1..200 {
        let now = dealt(shards, shards + 1);
        let moves = even_by_slots(&now);
        assert_moves_are_real(&now, &moves);
        let after = now.after(&moves);
        let counts = after.slots_per_shard();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        assert_eq!(moved(&moves), counts[shards]);
        assert!(moves.iter().all(|one| one.to == shards));
        assert!(runs(&after) <= 2 * shards + 1);
    }
}

#[test]
fn a_third_shard_takes_one_range_from_between_two() {
    let now = dealt(2, 3);
    let after = now.after(&even_by_slots(&now));
    assert_eq!(after.slots_per_shard(), [1366, 1365, 1365]);
    assert_eq!(runs_of(&after.owners, 2), [1366..=2730]);
}

#[test]
fn whole_runs_go_the_largest_first_and_what_is_cut_lies_beside_what_the_target_has() {
    let holdings = |runs: &[(usize, usize)]| {
        let owners: Vec<usize> =
            runs.iter().flat_map(|(owner, length)| std::iter::repeat_n(*owner, *length)).collect();
        Holdings { shards: 3, rows: vec![1; owners.len()], owners }
    };
    let many =
        [(0, 1), (1, 1), (0, 1), (1, 1), (0, 1), (1, 1), (0, 1), (1, 1), (0, 3), (1, 1), (0, 1), (1, 2)];
    let moves = even_by_slots(&holdings(&many));
    assert_eq!(moves[0], Move { slots: vec![8, 9, 10], from: 0, to: 2 });
    let moves = even_by_slots(&holdings(&[(0, 10), (1, 10), (0, 10), (2, 2)]));
    assert_eq!(
        moves,
        [Move { slots: vec![9], from: 0, to: 1 }, Move { slots: (22..30).collect(), from: 0, to: 2 }]
    );
}

#[test]
fn what_is_even_stays() {
    for shards in 1..100 {
        let now = dealt(shards, shards);
        assert_eq!(even_by_slots(&now), []);
        assert_eq!(even_by_rows(&now), []);
    }
}

#[test]
fn a_drained_shard_gives_each_slot_to_the_least_loaded() {
    let now = dealt(2, 3);
    let after = now.after(&even_by_slots(&now));
    let moves = drain(&after, 0);
    assert_moves_are_real(&after, &moves);
    assert_eq!(after.after(&moves).slots_per_shard(), [0, 2048, 2048]);
    // The one that has nothing comes first, and the fuller one gets none before they are equal.
    let moves = drain(&now, 1);
    assert_eq!(now.after(&moves).slots_per_shard(), [2048, 0, 2048]);
    assert_eq!(drain(&dealt(1, 1), 0), [], "there is nobody to take them");
}

#[test]
fn only_the_slots_that_are_elsewhere_are_gathered() {
    let now = dealt(2, 3);
    let moves = gather(&now, &[2047, 2048, 5], 1);
    assert_eq!(moves, [Move { slots: vec![5, 2047], from: 0, to: 1 }]);
}

#[test]
fn one_large_slot_is_no_reason_to_move_for_ever() {
    let mut now = dealt(2, 2);
    now.rows[7] = 1_000_000;
    assert_eq!(even_by_rows(&now), [], "they differ by less than that slot");
    now.rows[8] = 1_000_000;
    let after = now.after(&even_by_rows(&now));
    let rows = after.rows_per_shard();
    assert!(rows[0].abs_diff(rows[1]) <= 1_000_000, "{rows:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_holdings_become_even_by_slots_with_the_fewest_moves(now in any_holdings()) {
        let moves = even_by_slots(&now);
        assert_moves_are_real(&now, &moves);
        prop_assert_eq!(moved(&moves), fewest(&now));
        let after = now.after(&moves);
        let counts = after.slots_per_shard();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        prop_assert_eq!(even_by_slots(&after), vec![], "a second plan finds nothing to do");
        // A cut at most for each two shards that exchange slots.
        prop_assert!(runs(&after) <= runs(&now) + moves.len());
    }

    #[test]
    fn any_holdings_become_even_by_rows_within_the_largest_slot(now in any_holdings()) {
        let moves = even_by_rows(&now);
        assert_moves_are_real(&now, &moves);
        let after = now.after(&moves);
        let (rows, largest) = (after.rows_per_shard(), now.rows.iter().max().unwrap());
        prop_assert!(rows.iter().max().unwrap() - rows.iter().min().unwrap() <= *largest);
        prop_assert!(moves.iter().flat_map(|one| &one.slots).all(|slot| now.rows[usize::from(*slot)] > 0));
        prop_assert_eq!(even_by_rows(&after), vec![]);
    }

    #[test]
    fn any_shard_can_be_drained_without_a_move_between_the_others(now in any_holdings(), pick in 0_usize..9) {
        let shard = pick % now.shards;
        let moves = drain(&now, shard);
        assert_moves_are_real(&now, &moves);
        prop_assert!(moves.iter().all(|one| one.from == shard));
        if now.shards > 1 {
            let (before, after) = (now.slots_per_shard(), now.after(&moves).slots_per_shard());
            prop_assert_eq!(after[shard], 0);
            // Whoever got one has at most one more than any other.
            let fewest = (0..now.shards).filter(|one| *one != shard).map(|one| after[one]).min().unwrap();
            for one in (0..now.shards).filter(|one| after[*one] > before[*one]) {
                prop_assert!(after[one] <= fewest + 1);
            }
        }
    }
}
