//! File name patterns with `*` and `?`, without regard to ASCII case.

/// True if the whole `name` matches.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to take up again with the last `*` matching one character more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|left| *left == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            ("*.png", "a.PNG"),
            ("*", ""),
            ("a*b*c", "axxbxbc"),
            ("part_????.jpg", "part_0001.jpg"),
            ("ü*", "üx"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.png", "a.png.tmp"), ("?", ""), ("a*b", "a"), ("", "a"), ("*.png", "png")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
