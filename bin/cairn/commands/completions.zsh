
# Names of artifacts, versions, aliases and drafts; else what the function above completes.
_cairn() {
    local -a found
    found=(${(f)"$(command $words[1] __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then
        compadd -a found
    else
        _cairn_words "$@"
    fi
}

