//! What is shown: everything, or what a person has typed a part or a glob of.

use globset::{GlobBuilder, GlobMatcher};

/// A text that what is shown contains, or a glob that it matches; in any case of letters.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    text: String,
    glob: Option<GlobMatcher>,
}

impl Filter {
    pub fn new(text: &str) -> Self {
        let text = text.trim().to_lowercase();
        let is_glob = text.contains(['*', '?', '[', '{']);
        // One that is not complete yet, such as `[a`, is a text.
        let glob = is_glob.then(|| GlobBuilder::new(&text).case_insensitive(true).build().ok()).flatten();
        Self { text, glob: glob.map(|glob| glob.compile_matcher()) }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether one of these names, of a client, stream or file, is wanted.
    pub fn matches<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let is_wanted = |name: &str| match &self.glob {
            Some(glob) => glob.is_match(name),
            None => name.to_lowercase().contains(&self.text),
        };
        self.is_empty() || names.into_iter().any(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_part_of_a_name_or_a_glob() {
        for (filter, name, expected) in [
            ("", "", true),
            ("  ", "client1", true),
            ("ient", "client1", true),
            ("IENT", "Client1", true),
            ("größe", "GRÖSSE", false),
            ("größe", "GRÖßE.csv", true),
            ("ient", "weather.csv", false),
            ("client*", "client1", true),
            ("*.csv", "WEATHER.CSV", true),
            ("*.csv", "weather.csv.gz", false),
            ("w?ather.{csv,json}", "weather.json", true),
            ("[", "a[1].csv", true),
            ("[0-9]*", "1.csv", true),
        ] {
            assert_eq!(Filter::new(filter).matches([name]), expected, "{filter:?} {name:?}");
        }
        assert!(Filter::new("b").matches(["a", "b"]) && !Filter::new("c").matches(["a", "b"]));
    }
}
