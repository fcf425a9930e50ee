//! Command lines as Go's `flag` package reads them, since every caller of runc writes them that way: one dash or two,
//! `--name value` or `--name=value`, and options after the first argument too, unless what follows belongs to another
//! program. It knows tables of flags and nothing of their meaning (docs/decisions/0008).

use crate::failure::Failure;

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    /// Its names, without dashes; the first is the one it is asked for by.
    pub(crate) names: &'static [&'static str],
    pub(crate) takes: Takes,
    /// What it does, for people. Without a text it is not shown.
    pub(crate) help: &'static str,
}

/// The options of a command, in groups that several commands share.
pub(crate) type Flags = &'static [&'static [Flag]];

/// What stands behind a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true`, `=false`.
    Nothing,
    /// A value.
    Value,
}

/// Where options are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before and after the arguments.
    Anywhere,
    /// Before the first argument: the rest is somebody else's command line.
    BeforeFirst,
}

/// A command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    flags: Vec<(&'static str, String)>,
    /// The arguments.
    pub(crate) words: Vec<String>,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// To do something.
    Given(Given),
    /// `--help`.
    Help,
}

/// A flag that takes nothing.
pub(crate) const fn switch(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag { names, takes: Takes::Nothing, help }
}

/// A flag that takes a value.
pub(crate) const fn value(names: &'static [&'static str], help: &'static str) -> Flag {
    Flag { names, takes: Takes::Value, help }
}

/// Takes `words` apart. The error is Go's text.
pub(crate) fn parse(flags: Flags, order: Order, words: impl IntoIterator<Item = String>) -> Result<Parsed, String> {
    let mut given = Given::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(named) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            given.words.push(word);
            if order == Order::BeforeFirst {
                break;
            }
            continue;
        };
        let named = named.strip_prefix('-').unwrap_or(named);
        if named.is_empty() {
            break;
        }
        let (name, value) = named.split_once('=').map_or((named, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || name.starts_with('-') {
            return Err(format!("bad flag syntax: {word}"));
        }
        let Some(flag) = flags.iter().copied().flatten().find(|flag| flag.names.contains(&name)) else {
            if matches!(name, "help" | "h") {
                return Ok(Parsed::Help);
            }
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match (flag.takes, value) {
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Nothing, Some(text)) => truth(name, text)?.to_string(),
            (Takes::Value, Some(text)) => text.to_owned(),
            (Takes::Value, None) => words.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        given.flags.push((first_name(flag), value));
    }
    given.words.extend(words);
    Ok(Parsed::Given(given))
}

fn first_name(flag: &Flag) -> &'static str {
    flag.names.first().copied().unwrap_or_default()
}

/// Go's `strconv.ParseBool`.
fn truth(name: &str, text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid boolean value {text:?} for -{name}: parse error")),
    }
}

impl Given {
    /// The last value of a flag.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// The last value of a flag, unless that is empty: for most flags of runc the empty text means "not given".
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// All values of a flag, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.flags.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A switch is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// A flag that is a number.
    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Failure::new(format!("invalid value {text:?} for flag -{name}: parse error")))
        };
        self.text(name).map(parse).transpose()
    }

    /// The first argument: the container's id.
    pub(crate) fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: Flags = &[&[
        value(&["bundle", "b"], "a folder"),
        switch(&["detach", "d"], "do not wait"),
        switch(&["no-subreaper"], "no reaping"),
        value(&["env", "e"], "a variable"),
    ]];

    type Expected<'a> = Result<(&'a [(&'static str, &'a str)], &'a [&'a str]), &'a str>;

    fn check(order: Order, line: &str, expected: Expected<'_>) {
        let parsed = parse(FLAGS, order, line.split_whitespace().map(str::to_owned));
        let expected = expected.map(|(flags, words)| {
            let flags = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            Parsed::Given(Given { flags, words: words.iter().map(|word| (*word).to_owned()).collect() })
        });
        assert_eq!(parsed, expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        use Order::{Anywhere, BeforeFirst};
        for (order, line, expected) in [
            (Anywhere, "id", Ok((&[][..], &["id"][..]))),
            (Anywhere, "--bundle /b id", Ok((&[("bundle", "/b")], &["id"]))),
            (Anywhere, "-bundle=/b -d id", Ok((&[("bundle", "/b"), ("detach", "true")], &["id"]))),
            (Anywhere, "id -no-subreaper -b /b", Ok((&[("no-subreaper", "true"), ("bundle", "/b")], &["id"]))),
            (Anywhere, "--detach=false id --detach=T", Ok((&[("detach", "false"), ("detach", "true")], &["id"]))),
            (Anywhere, "-e a=b=c --env=d= id", Ok((&[("env", "a=b=c"), ("env", "d=")], &["id"]))),
            (Anywhere, "-b -1 id -", Ok((&[("bundle", "-1")], &["id", "-"]))),
            (Anywhere, "-d -- id -b", Ok((&[("detach", "true")], &["id", "-b"]))),
            (BeforeFirst, "-d id ls -d --bundle", Ok((&[("detach", "true")], &["id", "ls", "-d", "--bundle"]))),
            (BeforeFirst, "id -- ls", Ok((&[], &["id", "--", "ls"]))),
            (Anywhere, "id --nope", Err("flag provided but not defined: -nope")),
            (Anywhere, "id -b", Err("flag needs an argument: -b")),
            (Anywhere, "---d", Err("bad flag syntax: ---d")),
            (Anywhere, "--detach=maybe", Err("invalid boolean value \"maybe\" for -detach: parse error")),
        ] {
            check(order, line, expected);
        }
    }

    #[test]
    fn help_is_seen_wherever_options_are() {
        for line in ["--help", "-h", "id --help"] {
            let words = line.split_whitespace().map(str::to_owned);
            assert_eq!(parse(FLAGS, Order::Anywhere, words), Ok(Parsed::Help), "{line}");
        }
    }

    #[test]
    fn the_last_value_counts() {
        let Ok(Parsed::Given(given)) = parse(FLAGS, Order::Anywhere, ["-b=1", "-b=2", "-d", "-d=0"].map(str::to_owned))
        else {
            panic!("it parses");
        };
        assert_eq!((given.text("bundle"), given.has("detach")), (Some("2"), false));
        assert_eq!(given.number::<i32>("bundle").ok().flatten(), Some(2));
    }
}
