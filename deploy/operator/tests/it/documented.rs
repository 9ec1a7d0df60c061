//! What the documents say of the command is what it says of itself.

use crate::command::{bare_picopay, run};

/// The one table of commands.
const DOCUMENT: &str = include_str!("../../../../docs/operating.md");

#[tokio::test]
async fn the_table_of_commands_is_what_help_says() {
    let documented: Vec<(String, String)> = (DOCUMENT.lines())
        .filter_map(|line| {
            let (command, what) = line.strip_prefix("| `picopay ")?.split_once("` | ")?;
            Some((command.to_owned(), what.strip_suffix(" |")?.to_owned()))
        })
        .collect();
    let mut said = Vec::new();
    // A stack, so that the commands of a command come right behind it.
    let mut next: Vec<String> = commands_in(&help_of("").await).into_iter().rev().collect();
    while let Some(command) = next.pop() {
        let help = help_of(&command).await;
        let about: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).collect();
        said.push((command.clone(), about.join(" ")));
        next.extend(commands_in(&help).into_iter().rev().map(|inner| format!("{command} {inner}")));
    }
    assert!(said.len() > 20, "{said:?}");
    assert_eq!(documented, said);
}

async fn help_of(command: &str) -> String {
    run(bare_picopay(command.split_whitespace().chain(["--help"]))).await.success().out
}

/// The commands that a help lists, without the one that clap adds.
fn commands_in(help: &str) -> Vec<String> {
    (help.lines())
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}
