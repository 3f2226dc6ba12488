# What the tests of packages print and count. Sourced by them.

passed=0 failed=0

# Runs a command, whose success is what is expected. What it writes is shown if it fails.
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1)) && echo "ok      $what"
    else
        failed=$((failed + 1)) && printf 'FAILED  %s\n        $ %s\n%s\n' "$what" "$*" "$output"
    fi
}

# Runs a command that must fail and say something.
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

# Ends the test. A test that checked nothing has failed.
report() {
    echo "$(basename "$0"): $passed checks passed, $failed failed"
    [ $failed = 0 ] && [ $passed != 0 ]
    exit
}
