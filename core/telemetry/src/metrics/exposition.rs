//! Puts what several processes answer together: one text in which each family appears once, and each sample says which process
//! it is from.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The label that tells the process. A sample whose first label it is keeps it: it is about another process.
const LABEL: &str = "process";

/// Samples of the same families, of several processes.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, FamilyText>,
}

#[derive(Debug, Default)]
struct FamilyText {
    /// The lines HELP and TYPE.
    head: Vec<String>,
    samples: Vec<String>,
}

impl Exposition {
    /// Adds what a process has answered.
    pub fn add(&mut self, process: &str, text: &str) {
        let mut name = String::new();
        for line in text.lines() {
            let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
            if let Some(comment) = comment {
                comment.split(' ').next().unwrap_or_default().clone_into(&mut name);
                let head = &mut self.families.entry(name.clone()).or_default().head;
                if !head.iter().any(|known| known == line) && head.len() < 2 {
                    head.push(line.to_owned());
                }
            } else if let Some(sample) = labelled(line, process) {
                self.families.entry(name.clone()).or_default().samples.push(sample);
            }
        }
    }

    pub fn into_text(self) -> String {
        let mut text = String::new();
        for line in
            self.families.into_values().flat_map(|family| family.head.into_iter().chain(family.samples))
        {
            // A string accepts everything.
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The sample with the label of the process; `None` if the line is not a sample.
fn labelled(line: &str, process: &str) -> Option<String> {
    let end = line.find(['{', ' ']).filter(|_| !line.starts_with('#'))?;
    let (name, rest) = line.split_at(end);
    Some(match rest.strip_prefix('{') {
        Some(labels) if labels.starts_with(&format!("{LABEL}=\"")) => line.to_owned(),
        Some(labels) if labels.starts_with('}') => format!("{name}{{{LABEL}=\"{process}\"{labels}"),
        Some(labels) => format!("{name}{{{LABEL}=\"{process}\",{labels}"),
        None => format!("{name}{{{LABEL}=\"{process}\"}}{rest}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_of_several_processes_appears_once_and_samples_tell_their_process() {
        let mut all = Exposition::default();
        let help = "# HELP a_total Help.\n# TYPE a_total counter\n";
        all.add("one", &format!("{help}a_total 1\n# HELP b B.\n# TYPE b gauge\nb{{x=\"}} {{ y\\\"\"}} 2\n"));
        all.add("two", &format!("{help}a_total{{process=\"three\",x=\"1\"}} 3\na_total{{}} 4\n\n# EOF\n"));
        assert_eq!(
            all.into_text(),
            "# HELP a_total Help.\n# TYPE a_total counter\na_total{process=\"one\"} 1\n\
             a_total{process=\"three\",x=\"1\"} 3\na_total{process=\"two\"} 4\n\
             # HELP b B.\n# TYPE b gauge\nb{process=\"one\",x=\"} { y\\\"\"} 2\n"
        );
    }
}
