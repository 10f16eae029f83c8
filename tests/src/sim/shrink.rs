//! Making a failure small.

/// Which of `len` parts are needed for something to fail. `fails` is asked with the parts that are kept, in order; it is to
/// answer the same each time. It fails with all of them, or the answer is all of them.
///
/// Halves are left out first, then quarters, and so on down to single ones, for as long as that gets anywhere. No single
/// part of the answer can be left out.
///
/// ```
/// use turnwire_testkit::sim::shrink;
///
/// assert_eq!(shrink(100, |kept| kept.contains(&17) && kept.contains(&90)), [17, 90]);
/// ```
pub fn shrink(len: usize, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..len).collect();
    let mut size = len.div_ceil(2).max(1);
    loop {
        let mut any = false;
        let mut at = 0;
        while at < kept.len() {
            let end = (at + size).min(kept.len());
            let mut fewer = kept.clone();
            fewer.drain(at..end);
            if fails(&fewer) {
                kept = fewer;
                any = true;
            } else {
                at = end;
            }
        }
        match (size, any) {
            (1, false) => return kept,
            (1, true) => {}
            _ => size = size.div_ceil(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shrink;

    #[test]
    fn what_always_fails_shrinks_to_nothing() {
        assert!(shrink(9, |_| true).is_empty());
    }

    #[test]
    fn what_never_fails_is_left_whole() {
        assert_eq!(shrink(3, |_| false), [0, 1, 2]);
    }

    #[test]
    fn parts_that_matter_only_together_stay_together() {
        // Either both of a pair or a third.
        let fails = |kept: &[usize]| (kept.contains(&3) && kept.contains(&4)) || kept.contains(&11);
        assert!([vec![3, 4], vec![11]].contains(&shrink(12, fails)));
    }

    #[test]
    fn it_asks_few_times() {
        let mut asked = 0;
        shrink(1024, |kept| {
            asked += 1;
            kept.contains(&500)
        });
        assert!(asked < 60, "{asked}");
    }
}
