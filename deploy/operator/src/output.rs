//! How answers are printed: tables for people, JSON for programs.

use std::io::{ErrorKind, Write};

use anstyle::{AnsiColor, Effects, Style};
use clap::{Args, ValueEnum};
use comfy_table::{Cell, Color, ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

const GREEN: Style = AnsiColor::Green.on_default().effects(Effects::BOLD);
const RED: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);

/// Narrower than this, breaking lines helps nobody.
const LINE_WIDTH_MIN: usize = 40;

/// How a command prints its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct OutputArgs {
    /// How to print: a table for people, or JSON whose field names stay
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

/// A way to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // No help of their own: with it, `--help` takes a screen for this option alone.
    Table,
    Json,
}

impl OutputArgs {
    pub fn print<T: Serialize>(self, answer: &T, table: impl FnOnce(&T) -> String) {
        match self.output {
            Format::Table => print(&table(answer)),
            Format::Json => {
                print(
                    &serde_json::to_string_pretty(answer).expect("answers are plain structs with text keys"),
                );
            }
        }
    }
}

/// A reader that went away (`| head`) is no error.
pub fn print(text: &str) {
    let written = writeln!(anstream::stdout(), "{text}");
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        anstream::eprintln!("picopay: cannot write to standard output: {error}");
    }
}

pub fn good(text: &str) -> Cell {
    Cell::new(text).fg(Color::DarkGreen)
}

pub fn bad(text: &str) -> Cell {
    Cell::new(text).fg(Color::DarkRed)
}

pub fn plain(text: &str) -> Cell {
    Cell::new(text)
}

pub fn verdict_good(text: &str) -> String {
    format!("{}{text}{}", GREEN.render(), GREEN.render_reset())
}

pub fn verdict_bad(text: &str) -> String {
    format!("{}{text}{}", RED.render(), RED.render_reset())
}

/// One of several remarks under a table, broken into lines that the terminal holds.
pub fn bullet(text: &str) -> String {
    // Without a terminal there is no width, and a line stays whole for whoever searches it.
    let width = Table::new().width().map_or(usize::MAX, |width| usize::from(width).max(LINE_WIDTH_MIN));
    let mut lines = vec![String::from("  -")];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("starts with one");
        if line.chars().count() + 1 + word.chars().count() > width && line.chars().count() > 3 {
            lines.push(format!("    {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n")
}

pub fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .remove_style(TableComponent::HorizontalLines)
        .remove_style(TableComponent::MiddleIntersections)
        .remove_style(TableComponent::LeftBorderIntersections)
        .remove_style(TableComponent::RightBorderIntersections)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

pub fn seconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) }
}

pub fn bytes(size: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| size >> shift > 9);
    unit.map_or_else(|| format!("{size} B"), |(name, shift)| format!("{} {name}", size >> shift))
}
