//! Generators make the shapes that they promise, and the same ones again.

use std::collections::{BTreeMap, BTreeSet};

use vmmc_traces::{GenerateError, Generator, MAX_GENERATED_PAGES, Reference, Shape};

fn pages(shape: Shape, pages: u64, seed: u64, count: usize) -> Vec<u64> {
    let generator = Generator::new(shape, pages, 1, seed).expect("parameters that make sense");
    generator.take(count).map(|reference| reference.page).collect()
}

#[test]
fn sequences_and_strides_are_exact() {
    assert_eq!(pages(Shape::Sequential, 3, 0, 7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(pages(Shape::Strided { stride: 3 }, 8, 0, 10), [0, 3, 6, 1, 4, 7, 2, 5, 0, 3]);
    assert_eq!(pages(Shape::Strided { stride: 1 }, 3, 0, 4), [0, 1, 2, 0]);
    assert_eq!(pages(Shape::Strided { stride: 3 }, 3, 0, 4), [0, 1, 2, 0]);
    let transfers: Vec<Reference> = Generator::new(Shape::Sequential, 11, 4, 0).unwrap().take(3).collect();
    assert_eq!(transfers.iter().map(|r| (r.page, r.count)).collect::<Vec<_>>(), [(0, 4), (4, 4), (0, 4)]);
}

#[test]
fn popularity_falls_as_zipf_says() {
    let zipf = |alpha| {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        pages(Shape::Zipf { alpha }, 100, 1, 200_000)
            .into_iter()
            .for_each(|page| *counts.entry(page).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    };
    let counts = zipf(1.0);
    assert_eq!(counts.len(), 100);
    // The k-th has 1/k of the first's.
    for k in [2, 5, 10, 50] {
        let ratio = counts[0] as f64 / counts[k - 1] as f64 / k as f64;
        assert!((0.85..1.15).contains(&ratio), "{k}: {ratio}");
    }
    let uniform = zipf(0.0);
    assert!(uniform[0] < 2 * uniform[99], "{uniform:?}");
}

#[test]
fn working_sets_hold_for_a_phase() {
    let list = pages(Shape::WorkingSet { set: 10, phase: 500 }, 1000, 3, 2000);
    let sets: Vec<BTreeSet<u64>> = list.chunks(500).map(|phase| phase.iter().copied().collect()).collect();
    assert!(sets.iter().all(|set| set.len() == 10), "{sets:?}");
    assert!(sets.windows(2).all(|pair| pair[0] != pair[1]) && list.iter().all(|page| *page < 1000));
}

#[test]
fn a_transposed_matrix_is_read_by_rows_and_written_by_columns() {
    // Two rows of 512 elements would be a page each; here all of a page's 64 rows of 8 elements are in it.
    let list: Vec<u64> = Generator::transpose(8, 512).unwrap().map(|reference| reference.page).collect();
    assert_eq!(list, [0, 1].repeat(64));
    let list: Vec<u64> = Generator::transpose(64, 512).unwrap().map(|reference| reference.page).collect();
    assert_eq!(list.len(), 2 * 64 * 64);
    assert!(list.iter().step_by(2).is_sorted());
    assert_eq!(
        list[1..].iter().step_by(2).take(65).copied().collect::<Vec<_>>(),
        [Vec::from_iter(64..128), vec![64]].concat()
    );
    assert_eq!(list.iter().copied().collect::<BTreeSet<_>>(), (0..128).collect());
}

#[test]
fn seeds_make_the_difference() {
    for shape in [Shape::Zipf { alpha: 0.9 }, Shape::WorkingSet { set: 50, phase: 100 }] {
        assert_eq!(pages(shape, 1000, 1, 1000), pages(shape, 1000, 1, 1000));
        assert_ne!(pages(shape, 1000, 1, 1000), pages(shape, 1000, 2, 1000));
    }
    // Shipped traces and the figures in the documentation are made of these: they must not change unnoticed.
    assert_eq!(pages(Shape::Zipf { alpha: 0.9 }, 1000, 1, 5), ZIPF);
    assert_eq!(pages(Shape::WorkingSet { set: 50, phase: 100 }, 1000, 1, 5), WORKING_SET);
}

const ZIPF: [u64; 5] = [729, 891, 731, 748, 149];
const WORKING_SET: [u64; 5] = [509, 512, 153, 910, 153];

#[test]
fn what_makes_no_sense_is_refused() {
    let error = |shape, pages, transfer| Generator::new(shape, pages, transfer, 0).err().expect("an error");
    assert_eq!(error(Shape::Sequential, 0, 1), GenerateError::Pages(0));
    assert_eq!(error(Shape::Sequential, MAX_GENERATED_PAGES + 1, 1), GenerateError::Pages(MAX_GENERATED_PAGES + 1));
    assert_eq!(error(Shape::Sequential, 8, 0), GenerateError::Transfer { transfer: 0, pages: 8 });
    assert_eq!(error(Shape::Sequential, 8, 9), GenerateError::Transfer { transfer: 9, pages: 8 });
    assert_eq!(error(Shape::Strided { stride: 5 }, 8, 2), GenerateError::Stride { stride: 5, transfers: 4 });
    assert_eq!(error(Shape::Strided { stride: 0 }, 8, 1), GenerateError::Stride { stride: 0, transfers: 8 });
    assert_eq!(error(Shape::Zipf { alpha: -0.1 }, 8, 1), GenerateError::Alpha(-0.1));
    assert!(matches!(error(Shape::Zipf { alpha: f64::NAN }, 8, 1), GenerateError::Alpha(_)));
    assert_eq!(error(Shape::WorkingSet { set: 9, phase: 1 }, 8, 1), GenerateError::Set { set: 9, transfers: 8 });
    assert_eq!(error(Shape::WorkingSet { set: 1, phase: 0 }, 8, 1), GenerateError::Phase);
    for rows in [0, 65537, u64::MAX] {
        let error = Generator::transpose(rows, 4096).err().expect("an error");
        assert!(error.to_string().contains("1 to 65536 rows"), "{error}");
    }
    assert!(Generator::transpose(65536, 4096).is_ok());
}
