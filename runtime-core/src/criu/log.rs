//! What CRIU's log says went wrong: CRIU answers with a number, and the reason is in its log.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// Lines of one log that an error quotes.
const LINES: usize = 8;
/// The longest line that is quoted whole.
const WIDTH: usize = 300;

/// The last lines that say `Error`, and where to read more.
pub(crate) fn quote(path: &Path) -> String {
    let Ok(file) = std::fs::File::open(path) else { return format!("no log at {}", path.display()) };
    let mut said = std::collections::VecDeque::new();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // Setting its own limit of descriptors is refused without CAP_SYS_RESOURCE, and does no harm.
        if !line.contains("Error") || line.contains("rlimit: Can't setup RLIMIT_NOFILE for self") {
            continue;
        }
        if said.len() == LINES {
            said.pop_front();
        }
        said.push_back(line.chars().take(WIDTH).collect::<String>());
    }
    let said = if said.is_empty() { "no error in it".to_owned() } else { said.make_contiguous().join("; ") };
    format!("{}: {said}", path.display())
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn the_last_errors_are_quoted_with_the_place_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.log");
        assert_eq!(quote(&path), format!("no log at {}", path.display()));
        std::fs::write(&path, "(00.1) fine\n").unwrap();
        assert_eq!(quote(&path), format!("{}: no error in it", path.display()));
        let lines: String = (0..20).map(|n| format!("({n}) x\n({n}) Error: {n}\n")).collect();
        std::fs::write(&path, lines + "Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: no\n")
            .unwrap();
        let quoted = quote(&path);
        assert!(quoted.ends_with("(18) Error: 18; (19) Error: 19") && !quoted.contains("(11)"), "{quoted}");
    }
}
