//! Names like the one that a user wrote, for hints.

/// The up to three names nearest to `name` by edit distance, none farther than a third of its length, or one.
pub(super) fn nearest(name: &str, names: &[String]) -> Vec<String> {
    let length = name.chars().count();
    let bound = (length / 3).max(1);
    let mut ranked: Vec<_> = names
        .iter()
        .map(|n| (distance(name, n), n))
        .filter(|(d, n)| *d <= bound || (length > 1 && n.starts_with(name)))
        .collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, n)| n.clone()).collect()
}

/// How many letters must be put in, left out, replaced or exchanged with the next one to get from `a` to `b`.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let (mut above, mut previous) = (row.clone(), None);
    for (i, ca) in a.chars().enumerate() {
        let two_above = std::mem::replace(&mut above, row.clone());
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            row[j + 1] = (above[j] + usize::from(ca != *cb)).min(above[j + 1] + 1).min(row[j] + 1);
            if j > 0 && previous == Some(*cb) && ca == b[j - 1] {
                row[j + 1] = row[j + 1].min(two_above[j - 1] + 1);
            }
        }
        previous = Some(ca);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_are_offered() {
        let names = ["images".to_owned(), "labels".to_owned()];
        assert_eq!(nearest("imges", &names), ["images"]);
        assert!(nearest("zzz", &names).is_empty());
        assert!(nearest("m", &["tmp".to_owned(), "model".to_owned()]).is_empty());
    }

    #[test]
    fn a_distance_counts_exchanged_letters_once() {
        for (a, b, expected) in [("", "ab", 2), ("lits", "list", 1), ("list", "ls", 2), ("kitten", "sitting", 3)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
