//! `cargo xtask browser`: a page of `vmmc-bench --html` or `vmmc utlb run --html`, opened in headless Chromium.
//!
//! In light and dark, on a desk and on a phone: every plot must have a size on the screen and colours, nothing may be wider than
//! the window, and the console must stay silent. Screenshots are left for whoever wants to look. It isn't among the tests,
//! because a browser is large.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::process::{Failure, cargo, find, run, start, wait};
use crate::setup::{setup, setup_browser};

/// The test that writes the page, of invented figures, to the file that the variable names.
const TEST: &str = "html::tests::a_long_run_has_every_plot_and_every_peer";
const VARIABLE: &str = "VMMC_BENCH_PAGE";

/// With this every page begins to say what it may do: fetch nothing, run nothing.
const POLICY: &str = "default-src 'none';";

/// Is added to the page.
const PROBE: &str = include_str!("probe.js");

const THEMES: [&str; 2] = ["light", "dark"];
/// Names, and widths of their windows. Chromium has no narrower window than the phone's.
const SCREENS: [(&str, u32); 2] = [("desk", 1280), ("phone", 500)];

/// The most of a page that is on a screenshot. More is more than Chromium draws at once.
const TALLEST: u64 = 8000;

/// Looks at the page in `file`, or at one made for the purpose.
pub(crate) fn browser(file: Option<&OsStr>) -> Result<(), Failure> {
    if file.is_none() {
        setup()?;
    }
    setup_browser()?;
    let directory = directory()?;
    let page = match file {
        Some(file) => PathBuf::from(file),
        None => invented(&directory)?,
    };
    let text = fs::read_to_string(&page).map_err(|error| failure("reading", &page, error))?;
    let probed_text = probed(&text).ok_or_else(|| {
        Failure::Other(format!("{} was not written by vmmc-bench --html or vmmc utlb run --html", page.display()))
    })?;
    // Chromium is told the path, and not asked to find it from where it runs.
    let page = fs::canonicalize(&page).map_err(|error| failure("finding", &page, error))?;
    let probed = directory.join("probed.html");
    fs::write(&probed, probed_text).map_err(|error| failure("writing", &probed, error))?;

    let chromium = Chromium { profile: directory.join("profile") };
    chromium.complains(&directory)?;
    let mut colours = Vec::new();
    for theme in THEMES {
        for (screen, width) in SCREENS {
            let seen = Seen::new(&chromium.open(&probed, theme, width, 1000, None)?, theme)?;
            println!(
                "{theme}, {screen}: {} plots and {} tables, all to be seen, console silent",
                seen.plots, seen.tables
            );
            let shot = directory.join(format!("{theme}-{screen}.png"));
            chromium.open(&page, theme, width, seen.height.min(TALLEST), Some(&shot))?;
            if !shot.is_file() {
                return Err(Failure::Other(format!("Chromium left no screenshot at {}", shot.display())));
            }
            println!("  {}", shot.display());
            colours.push((theme, seen.colours));
        }
    }
    if colours.iter().any(|(theme, of)| colours.iter().any(|(other, its)| theme != other && of == its)) {
        return Err(Failure::Other("the page has the same colours in light and dark".into()));
    }
    let _ = fs::remove_dir_all(&chromium.profile);
    Ok(())
}

/// The page with the probe in it, which its policy forbids; all else stays forbidden.
fn probed(page: &str) -> Option<String> {
    let (head, rest) = page.split_once(POLICY)?;
    let (body, end) = rest.rsplit_once("</body>")?;
    Some(format!("{head}{POLICY} script-src 'unsafe-inline';{body}<script>{PROBE}</script></body>{end}"))
}

/// A page of figures that nobody measured.
fn invented(directory: &Path) -> Result<PathBuf, Failure> {
    let page = directory.join("invented.html");
    // An old one would do for a new one that was not written.
    let _ = fs::remove_file(&page);
    let test = ["test", "-q", "-p", "vmmc-bench", "--bin", "vmmc-bench", TEST, "--", "--exact"];
    run(cargo().args(test).env(VARIABLE, &page))?;
    if page.is_file() {
        Ok(page)
    } else {
        Err(Failure::Other(format!("the test {TEST} wrote no page: was it renamed?")))
    }
}

/// Beside the programs that cargo builds.
fn directory() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe().map_err(|error| Failure::Other(format!("where xtask is: {error}")))?;
    let directory = this.ancestors().nth(2).unwrap_or(Path::new("target")).join("browser");
    fs::create_dir_all(&directory).map_err(|error| failure("making", &directory, error))?;
    Ok(directory)
}

fn failure(what: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::Other(format!("{what} {}: {error}", path.display()))
}

struct Chromium {
    /// A directory of its own, so that nobody's settings matter.
    profile: PathBuf,
}

impl Chromium {
    /// Opens a page, and returns what its console has said.
    fn open(
        &self,
        page: &Path,
        theme: &str,
        width: u32,
        height: u64,
        shot: Option<&Path>,
    ) -> Result<Vec<String>, Failure> {
        let _ = fs::remove_dir_all(&self.profile);
        let log = self.profile.with_extension("log");
        let file = fs::File::create(&log).map_err(|error| failure("writing", &log, error))?;
        // A browser that hangs is ended.
        let mut command = Command::new("timeout");
        command.arg("120").arg(find("chromium").unwrap_or_else(|| "chromium".into()));
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--hide-scrollbars", "--enable-logging=stderr", "--v=0"]);
        command.arg(format!("--user-data-dir={}", self.profile.display()));
        command.arg(format!("--blink-settings=preferredColorScheme={}", if theme == "dark" { 0 } else { 1 }));
        command.arg(format!("--window-size={width},{height}"));
        match shot {
            Some(shot) => {
                let _ = fs::remove_file(shot);
                command.arg(format!("--screenshot={}", shot.display()))
            }
            None => command.arg("--dump-dom"),
        };
        command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let status = wait(&mut start(&mut command)?)?;
        let text = fs::read(&log).map_err(|error| failure("reading", &log, error))?;
        let text = String::from_utf8_lossy(&text);
        if !status.success() {
            return Err(Failure::Other(format!("Chromium failed ({status}):\n{text}")));
        }
        Ok(text.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect())
    }

    /// Makes sure that what a page does wrong would be heard of.
    fn complains(&self, directory: &Path) -> Result<(), Failure> {
        let page = directory.join("wrong.html");
        let policy =
            format!("<meta http-equiv=Content-Security-Policy content=\"{POLICY} script-src 'unsafe-inline'\">");
        let wrong = "<img src=elsewhere.png><script>absent()</script>";
        fs::write(&page, format!("<!doctype html><title>wrong</title>{policy}{wrong}"))
            .map_err(|error| failure("writing", &page, error))?;
        let console = self.open(&page, "light", 500, 500, None)?;
        let heard = |what: &str| console.iter().any(|line| line.contains(what));
        if heard("absent is not defined") && heard("elsewhere.png") {
            return Ok(());
        }
        Err(Failure::Other(format!("this Chromium doesn't tell what goes wrong on a page; it said {console:?}")))
    }
}

/// What the probe saw.
struct Seen {
    plots: u64,
    tables: u64,
    height: u64,
    colours: [String; 2],
}

impl Seen {
    /// From what the console said. Anything that isn't as it must be is an error.
    fn new(console: &[String], theme: &str) -> Result<Seen, Failure> {
        let report = |line: &String| {
            let (_, rest) = line.split_once("vmmc-probe ")?;
            let (json, _) = rest.split_once(" vmmc-probe-end")?;
            serde_json::from_str::<Value>(json).ok()
        };
        let (reports, others): (Vec<_>, Vec<_>) = console.iter().partition(|line| report(line).is_some());
        let wrong = |what: String| Err(Failure::Other(format!("in {theme}: {what}")));
        if !others.is_empty() {
            return wrong(format!("the console is not silent: {others:?}"));
        }
        let Some(seen) = reports.first().and_then(|line| report(line)) else {
            return wrong("the page was not drawn: its probe has said nothing".into());
        };
        let number = |key: &str| seen[key].as_u64().unwrap_or(0);
        let unseen = seen["unseen"].as_array().map_or(0, Vec::len);
        if unseen > 0 {
            return wrong(format!("{unseen} of {} plots can't be seen whole: {}", number("plots"), seen["unseen"]));
        }
        if number("tables") == 0 {
            return wrong("there is no table".into());
        }
        if seen["overflow"].as_i64().is_none_or(|pixels| pixels > 0) {
            return wrong(format!("the page is wider than the window by {} pixels", seen["overflow"]));
        }
        if seen["theme"] != theme {
            return wrong("Chromium shows the other theme".into());
        }
        let colours = ["page", "ink"].map(|key| seen[key].to_string());
        Ok(Seen { plots: number("plots"), tables: number("tables"), height: number("height").max(200), colours })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(facts: &str) -> String {
        format!("[1:1:INFO:CONSOLE:9] \"vmmc-probe {facts} vmmc-probe-end\", source: file:///x (9)")
    }

    const GOOD: &str =
        r#"{"plots":4,"tables":1,"height":900,"overflow":0,"theme":"dark","page":"rgb(0,0,0)","ink":"x","unseen":[]}"#;

    #[test]
    fn a_page_that_is_as_it_must_be() {
        let seen = Seen::new(&[line(GOOD)], "dark").unwrap();
        assert_eq!((seen.plots, seen.tables, seen.height), (4, 1, 900));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = |lines: &[String], theme| Seen::new(lines, theme).err().expect("an error").to_string();
        let but = |from: &str, to: &str| error(&[line(&GOOD.replace(from, to))], "dark");
        assert!(but("[]", r#"["Bandwidth"]"#).contains("1 of 4 plots can't be seen whole: [\"Bandwidth\"]"));
        assert!(but("\"tables\":1", "\"tables\":0").contains("no table"));
        assert!(but("\"overflow\":0", "\"overflow\":30").contains("by 30 pixels"));
        assert!(but("\"overflow\":0,", "").contains("wider than the window"));
        assert!(error(&[line(GOOD)], "light").contains("the other theme"));
        assert!(error(&[], "dark").contains("said nothing"));
        assert!(error(&[line(GOOD), "CONSOLE: a complaint".into()], "dark").contains("a complaint"));
    }

    #[test]
    fn the_probe_is_let_in_and_nothing_else() {
        let page = format!("<meta content=\"{POLICY} img-src data:\"><body>x</body></html>");
        let probed = probed(&page).unwrap();
        assert!(probed.starts_with("<meta content=\"default-src 'none'; script-src 'unsafe-inline'; img-src data:\">"));
        assert!(probed.contains("x<script>") && probed.ends_with("</script></body></html>"));
        assert!(super::probed("<body></body>").is_none() && super::probed(POLICY).is_none());
    }
}
