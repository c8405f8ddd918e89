//! `vmmc utlb`, as a shell uses it. Needs no privilege.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use scraper::{Html, Selector};
use serde_json::Value;

const LACKEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/tests/reading/ls.lackey");
const PERF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/tests/reading/ls.perf");

/// The reference string of Belady, Nelson and Shedler, 1969.
const BELADY: &str = "# an anomaly\n1\n2\n3\n4\n1\n2\n5\n1\n2\n3\n4\n5\n";

fn vmmc(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmmc"));
    command.arg("utlb").args(args).env_remove("VMMC_LOG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("vmmc can be started");
    // Who finds a mistake in the arguments reads nothing.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it was started")
}

fn ok(args: &[&str], input: &str) -> String {
    let output = vmmc(args, input);
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Exit status and message of a run that fails.
fn fails(args: &[&str], input: &str) -> (Option<i32>, String) {
    let output = vmmc(args, input);
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {output:?}");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

fn rows(args: &[&str], input: &str) -> Vec<Value> {
    let text = ok(&[&["run", "--json"], args].concat(), input);
    serde_json::from_str::<Vec<Value>>(&text).expect("an array")
}

/// A figure of the only row with these properties.
fn figure(rows: &[Value], rule: &str, policy: &str, budget: u64, key: &str) -> f64 {
    let here = |row: &&Value| row["rule"] == rule && row["policy"] == policy && row["budget"] == budget;
    let found: Vec<&Value> = rows.iter().filter(here).collect();
    assert_eq!(found.len(), 1, "{rule} {policy} {budget} in {rows:?}");
    found[0][key].as_f64().unwrap_or_else(|| panic!("{key} in {}", found[0]))
}

#[test]
fn beladys_anomaly_is_seen() {
    let rows = rows(&["-", "--budget", "3,4", "--prefetch", "0"], BELADY);
    let misses = |policy| [3, 4].map(|budget| figure(&rows, "pin", policy, budget, "misses"));
    assert_eq!((misses("fifo"), misses("lru"), misses("opt")), ([9.0, 10.0], [10.0, 8.0], [7.0, 6.0]));
    // Copying once; per budget six policies that pin and five that may.
    assert_eq!(rows.len(), 1 + 2 * (6 + 5));
    assert!(rows.iter().all(|row| row["trace"] == "standard input" && row["lookups"] == 12 && row["pages"] == 5));
    let copy: Vec<&Value> = rows.iter().filter(|row| row["rule"] == "copy").collect();
    assert!(copy.len() == 1 && copy[0]["policy"].is_null() && copy[0]["budget"].is_null() && copy[0]["copied"] == 12);
    // By the library's costs: 9 pins and 6 unpins, one by one, 12 copies.
    assert_eq!(figure(&rows, "pin", "fifo", 3, "cost_us"), (9 * 9600 + 6 * 12300) as f64 / 1e3);
    assert_eq!(figure(&rows, "ski-rental", "lru", 3, "of_better"), 1.0);
}

#[test]
fn tables_say_the_same() {
    let text = ok(&["run", "-", "--budget", "3", "--policy", "fifo,opt", "--rule", "pin"], BELADY);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(text.lines().next(), Some("standard input: 12 sends of 12 pages, 5 different ones of 4096 bytes"));
    assert_eq!(lines[2][..7], ["3", "pin", "opt", "12", "7", "58.3%", "7"]);
    assert_eq!(lines[3][..7], ["3", "pin", "fifo", "12", "9", "75.0%", "9"]);
    assert_eq!(lines.len(), 4, "{text}");
    let text = ok(&["run", "-", "--budget", "3", "--policy", "lru"], BELADY);
    assert!(text.contains("ski-rental costs at most 1.00 times the better of pin and copy (lru, 3 pages)"), "{text}");
}

#[test]
fn options_reach_the_utlb() {
    let costs = "pin-call=1000,pin-page=100,unpin-call=2000,unpin-page=200,copy-page=7";
    let args = ["-", "--budget", "2", "--policy", "lru", "--costs", costs];
    let all = rows(&args, "0 2\n1\n8 2\n0\n");
    assert_eq!(figure(&all, "pin", "lru", 2, "cost_us"), 8.1);
    assert_eq!(all[0]["cost_us"], 0.042);
    // What is said of a page is of 4096 bytes; these are four times as large.
    let large = rows(&args, "vmmc-trace 1 page-size 16384\n0 2\n1\n8 2\n0\n");
    assert_eq!(figure(&large, "pin", "lru", 2, "cost_us"), (3 * 1000 + 5 * 400 + 2 * 2000 + 3 * 800) as f64 / 1e3);
    let ahead = rows(&["-", "--budget", "4", "--policy", "lru", "--rule", "pin", "--prefetch", "2"], "0\n1\n2\n3\n");
    assert_eq!([&ahead[0]["misses"], &ahead[0]["prefetched"]], [2, 2]);
    let doubled = rows(&["-", "--budget", "1..8,3", "--policy", "lru", "--rule", "pin"], BELADY);
    let budgets: Vec<u64> = doubled.iter().filter_map(|row| row["budget"].as_u64()).collect();
    assert_eq!(budgets, [1, 2, 3, 4, 8]);
    let random =
        |seed| rows(&["--trace", "sort", "--policy", "random", "--rule", "pin", "--budget", "64", "--seed", seed], "");
    assert_eq!(random("1"), random("1"));
    assert_ne!(random("1"), random("2"));
}

#[test]
fn what_is_generated_can_be_run() {
    let zipf = ["generate", "zipf", "--pages", "500", "--references", "2000", "--alpha", "1.1", "--seed", "7"];
    let text = ok(&zipf, "");
    assert!(text.starts_with(
        "vmmc-trace 1 page-size 4096\n# zipf: 500 pages, 2000 references, transfers of 1, alpha 1.1, seed 7\n"
    ));
    assert_eq!(text.lines().count(), 2 + 2000);
    assert_eq!(text, ok(&zipf, ""));
    let rows = rows(&["-", "--policy", "lru,opt", "--rule", "pin", "--budget", "32"], &text);
    assert!(figure(&rows, "pin", "opt", 32, "misses") < figure(&rows, "pin", "lru", 32, "misses"));

    let blocks = ok(
        &["generate", "sequential", "--pages", "8", "--references", "3", "--transfer", "4", "--page-size", "8192"],
        "",
    );
    assert_eq!(
        blocks.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(),
        ["vmmc-trace 1 page-size 8192", "0 4", "4 4", "0 4"]
    );
    for shape in ["strided", "working-set"] {
        assert_eq!(ok(&["generate", shape, "--references", "10"], "").lines().count(), 12);
    }
    assert_eq!(ok(&["generate", "transpose", "--rows", "20"], "").lines().count(), 2 + 2 * 20 * 20);
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmmc"));
    command.args(["utlb", "generate", "sequential"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("vmmc can be started");
    let mut begin = [0; 10];
    child.stdout.take().expect("it is piped").read_exact(&mut begin).expect("something is written");
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success() && output.stderr.is_empty() && &begin == b"vmmc-trace", "{output:?}");
}

#[test]
fn what_others_have_recorded_is_imported() {
    for (file, option, about) in [(LACKEY, "lackey", "# imported from lackey"), (PERF, "perf", "# imported from perf")]
    {
        let text = ok(&["import", file], "");
        assert_eq!(text, ok(&["import", "--from", option, "-"], &fs::read_to_string(file).expect("it is there")));
        assert_eq!(text.lines().nth(1), Some(about));
        let run = |input: &str| rows(&["-", "--policy", "lru", "--budget", "4,8"], input);
        let direct = rows(&[file, "--policy", "lru", "--budget", "4,8"], "");
        // Small numbers make no difference but to the text.
        let compact = ok(&["import", "--compact", file], "");
        assert!(compact.len() < text.len(), "{compact}");
        let imported = run(&text);
        assert_eq!(imported, run(&compact));
        assert!(direct.iter().zip(&imported).all(|(a, b)| a["cost_us"] == b["cost_us"] && a["misses"] == b["misses"]));
    }
    let count = |args: &[&str]| ok(&[&["import", LACKEY], args].concat(), "").lines().count();
    assert!(count(&["--instructions"]) > count(&[]) && count(&["--collapse", "0"]) > count(&[]));
    assert!(count(&["--collapse", "8"]) < count(&[]));
    assert!(ok(&["import", "--page-size", "65536", LACKEY], "").starts_with("vmmc-trace 1 page-size 65536\n"));
    // A trace is one, too.
    assert_eq!(
        ok(&["import", "-"], "vmmc-trace 1 page-size 512\n7\n0x7\n"),
        "vmmc-trace 1 page-size 512\n# imported from trace\n7\n7\n"
    );
}

#[test]
fn shipped_traces_have_names() {
    let list = ok(&["traces"], "");
    let names: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["sequential", "blocks", "strided", "zipf", "working-set", "transpose", "sort"]);
    let text = ok(&["run", "--trace", "sort,blocks", "--policy", "lru", "--budget", "64"], "");
    assert!(text.contains("\n\nsort: ") && text.starts_with("blocks: 1024 sends of 16384 pages"), "{text}");
}

#[test]
fn a_page_has_the_curves_of_every_trace() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (odd, page) = (directory.path().join("<script>.trace"), directory.path().join("page.html"));
    fs::write(&odd, BELADY).expect("it can be written");
    let path = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    ok(&["run", &path(&odd), "--trace", "sort", "--html", &path(&page), "--budget", "2..64"], "");
    let text = fs::read_to_string(&page).expect("it was written");
    for absent in ["http:", "https:", "<script", "src=", "@import", "url(", "NaN"] {
        assert!(!text.contains(absent), "{absent} in the page");
    }
    let html = Html::parse_document(&text);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    let texts = |selector: &str| -> Vec<String> {
        html.select(&Selector::parse(selector).expect("a selector"))
            .map(|found| found.text().collect::<String>().trim().to_owned())
            .collect()
    };
    let captions = texts("figcaption");
    assert_eq!(captions.len(), 4);
    assert!(captions[0].contains("<script>.trace") && captions[2] == "Miss ratio by budget, sort", "{captions:?}");
    assert_eq!(captions[3], "Cost by budget, sort, policy lru");
    let legends = texts(".legend li");
    assert_eq!(legends[..9], ["opt", "lru", "mru", "lfu", "fifo", "random", "pin", "copy", "ski-rental"]);
    // Every point can be pointed at: six policies and three rules, six budgets, two traces.
    let hints = texts(".hint title");
    assert_eq!(hints.len(), (6 + 3) * 6 * 2);
    assert!(hints.contains(&"fifo, 4 pages: 83.3%".to_owned()), "{hints:?}");
    assert_eq!(texts("table").len(), 2);
    assert_eq!(texts("tbody tr").len(), 2 * (1 + 6 * 11));
    assert_eq!(texts(".tile").len(), 2);
}

#[test]
fn mistakes_are_told() {
    for (args, input, status, parts) in [
        (&["run"][..], "", 2, &["<TRACE|--trace <NAMES>|--all>"][..]),
        (&["run", "-"], "", 1, &["standard input has no references"]),
        (
            &["run", "-"],
            "1\n2\nx 3\n",
            1,
            &["standard input, read as trace", "line 3 is \"x 3\"", "PAGE or PAGE COUNT"],
        ),
        (
            &["run", "--from", "lackey", "-"],
            "total 12\n",
            1,
            &["read as lackey", "line 1 is \"total 12\"", "--log-file=FILE"],
        ),
        (&["run", "/nowhere/x.trace"], "", 1, &["can't open /nowhere/x.trace", "No such file"]),
        (&["run", "/"], "", 1, &["/, read as trace", "can't be read", "directory"]),
        (&["run", "--trace", "zap"], "", 2, &["zap", "working-set"]),
        (&["run", "-", "--policy", "clock"], "1\n", 2, &["clock", "opt, lru, mru, lfu, fifo, random"]),
        (&["run", "-", "--budget", "0"], "1\n", 2, &["a budget is 1 to", "16..4096"]),
        (&["run", "-", "--costs", "pin=3"], "1\n", 2, &["\"pin\" is none of pin-call"]),
        (&["run", "-", "--page-size", "5000"], "1\n", 2, &["a power of two: 8192"]),
        (&["run", "-", "--html", "/nowhere/page.html"], "1\n", 1, &["can't write /nowhere/page.html"]),
        (&["run", "-"], "0 1048576\n".repeat(300).as_str(), 1, &["sends more than 268435456 pages", "cut it"]),
        (&["generate", "zipf", "--alpha=-1"], "", 1, &["alpha is 0 to 10, not -1"]),
        (&["generate", "zipf", "--alpha", "11"], "", 1, &["alpha is 0 to 10, not 11"]),
        (&["generate", "zipf", "--pages", "0"], "", 2, &["--pages"]),
        (&["generate", "strided", "--stride", "0"], "", 1, &["a stride is 1 to"]),
        (&["generate", "transpose", "--rows", "0"], "", 1, &["a matrix has 1 to 65536 rows"]),
        (&["import", "-"], "I  04,x\n", 1, &["standard input, read as trace", "line 1"]),
    ] {
        let (found, error) = fails(args, input);
        assert_eq!(found, Some(status), "{args:?}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    }
}
