//! `bake completions`: the scripts that clap makes of the command line, and what it cannot know:
//! the names of images, which `bake list --names` prints.

use clap_complete::Shell;

use super::args::command;
use super::ctx::Ctx;
use super::edge;
use crate::ui::report::Report;

/// The commands whose arguments are images.
const OF_IMAGES: &[&str] = &[
    "test", "run", "boot", "list", "show", "history", "rm", "promote", "revoke", "verify",
    "export", "diff",
];

/// Bash splits words at colons, and `web:1.0.0` has one: what stands before it is cut off again.
const BASH: &str = r#"
_bake_images() {
    _bake "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" i=$COMP_CWORD
    while [[ $i -gt 1 && ( "${COMP_WORDS[i]}" == ":" || "${COMP_WORDS[i-1]}" == ":" ) ]]; do
        i=$((i - 1)); cur="${COMP_WORDS[i]}$cur"
    done
    case " @commands@ " in
        *" ${COMP_WORDS[1]} "*)
            [[ "$cur" == -* ]] && return
            local names; names=$(compgen -W "$(bake list --names 2>/dev/null)" -- "$cur")
            local cut=""; [[ "$cur" == *:* && "$COMP_WORDBREAKS" == *:* ]] && cut="${cur%:*}:"
            local name; for name in $names; do COMPREPLY+=("${name#"$cut"}"); done ;;
    esac
}
complete -F _bake_images -o bashdefault -o default bake
"#;

const FISH: &str = r#"
complete -c bake -n "__fish_seen_subcommand_from @commands@" -f -a "(bake list --names 2>/dev/null)"
"#;

const ZSH: &str = r#"
_bake_images() {
    local -a names
    names=(${(f)"$(bake list --names 2>/dev/null)"})
    compadd -a names
}
"#;

/// `bake completions`.
pub(super) fn completions(ctx: &Ctx<'_>, shell: Shell) -> Result<u8, Report> {
    let mut out = vec![];
    clap_complete::generate(shell, &mut command(), "bake", &mut out);
    let script = String::from_utf8_lossy(&out).into_owned();
    ctx.ui.raw(with_images(shell, script).as_bytes());
    Ok(edge::OK)
}

fn with_images(shell: Shell, script: String) -> String {
    match shell {
        Shell::Bash => script + &BASH.replace("@commands@", &OF_IMAGES.join(" ")),
        Shell::Fish => script + &FISH.replace("@commands@", &OF_IMAGES.join(" ")),
        Shell::Zsh => {
            let own = |line: &str| {
                let image =
                    ["':image ", "'::image ", "'*::images ", "'*:images ", "':before ", "':after "];
                match image.iter().any(|start| line.starts_with(start)) {
                    true => line.replace(":_default'", ":_bake_images'"),
                    false => line.to_owned(),
                }
            };
            let text: Vec<String> = script.lines().map(own).collect();
            // Functions must be there before the script calls its own at its end.
            text.join("\n").replacen("\n_bake() {", &format!("\n{ZSH}\n_bake() {{"), 1) + "\n"
        }
        _ => script,
    }
}
