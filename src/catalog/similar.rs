//! Names like the one that a user wrote, for hints.

/// The up to three names nearest to `name` by edit distance, none farther than a third of its length and two.
pub(super) fn nearest(name: &str, names: &[String]) -> Vec<String> {
    let bound = name.chars().count() / 3 + 2;
    let mut ranked: Vec<_> =
        names.iter().map(|n| (distance(name, n), n)).filter(|(d, n)| *d <= bound || n.starts_with(name)).collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, n)| n.clone()).collect()
}

/// Levenshtein's distance.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(ca != *cb)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
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
    }
}
