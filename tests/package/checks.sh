# Printing and counting of results in the tests of packages. Sourced by them.

passed=0 failed=0

# Runs a command that must succeed. Its output is shown if it fails.
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1)) && echo "ok      $what"
    else
        failed=$((failed + 1)) && printf 'FAILED  %s\n        $ %s\n%s\n' "$what" "$*" "$output"
    fi
}

# Runs a command that must fail with a message.
refuse() {
    local what=$1 expected=$2 output
    shift 2
    if output=$("$@" 2>&1); then
        failed=$((failed + 1)) && printf 'FAILED  %s\n        $ %s\n        did not fail\n%s\n' "$what" "$*" "$output"
    elif [[ $output == *"$expected"* ]]; then
        passed=$((passed + 1)) && echo "ok      refused: $what"
    else
        failed=$((failed + 1)) && printf 'FAILED  %s\n        $ %s\n        does not say "%s"\n%s\n' "$what" "$*" "$expected" "$output"
    fi
}

# Ends the test. A test without any check has failed.
report() {
    echo "$(basename "$0"): $passed checks passed, $failed failed"
    [ $failed = 0 ] && [ $passed != 0 ]
    exit
}
