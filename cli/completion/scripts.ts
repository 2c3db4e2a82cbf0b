// The scripts that shells load. Each asks `gantry __complete WORDS...`, which answers with a line for each candidate, VALUE<Tab>HELP, or
// with ":files" where the shell's own file names are wanted. Pure texts.

// COMP_WORDS is split at = and : too (COMP_WORDBREAKS), and bash replaces only the piece at the cursor: what stands before it in the word
// is cut off the candidates.
const BASH = `# Tab completion for gantry in bash. Load it with: source <(gantry completion bash)
_gantry() {
  local line=\${COMP_LINE:0:COMP_POINT} words last cur strip value help
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  last=\${words[\${#words[@]}-1]}
  cur=\${COMP_WORDS[COMP_CWORD]}
  [[ $cur == [=:] ]] && cur=
  strip=\${last%"$cur"}
  COMPREPLY=()
  while IFS=$'\\t' read -r value help; do
    if [[ $value == :files ]]; then
      compopt -o default 2>/dev/null
      COMPREPLY=()
      return
    fi
    [[ $value == "$last"* ]] && COMPREPLY+=("\${value#"$strip"}")
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
  return 0
}
complete -F _gantry gantry
`;

const ZSH = `#compdef gantry
# Tab completion for gantry in zsh. Load it with: source <(gantry completion zsh), after compinit
_gantry() {
  local -a found
  local line value help
  for line in "\${(@f)$("\${words[1]}" __complete "\${(@)words[2,$CURRENT]}" 2>/dev/null)}"; do
    [[ -z $line ]] && continue
    value=\${line%%$'\\t'*}
    help=\${line#*$'\\t'}
    if [[ $value == :files ]]; then
      _files
      return
    fi
    [[ $help == $line ]] && help=
    found+=("\${value//:/\\\\:}\${help:+:$help}")
  done
  (( \${#found} )) && _describe 'gantry' found
}
compdef _gantry gantry
`;

const FISH = `# Tab completion for gantry in fish. Load it with: gantry completion fish | source
function __gantry_complete
    set -l done (commandline -opc)
    set -l last (commandline -ct)
    for line in ($done[1] __complete $done[2..-1] "$last" 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path "$last"
            return
        end
        echo $line
    end
end
complete -c gantry -f -a '(__gantry_complete)'
`;

export const COMPLETION_SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH } as const;
