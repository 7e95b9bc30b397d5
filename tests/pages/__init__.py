"""The commands of the documentation's pages: where they stand, what a page says that they print, and who runs them.

    blocks.py      the blocks of code of a page, and the commands in them
    comparison.py  whether a command printed what its page shows
    accounts.py    of every page: where its commands are run; unplayed.yaml: which test runs the others, or why none can
    shell.py       runs a page's commands, one after the other, and reports what differs

test_accounts.py fails where a page has a command that is in neither. test_api_server.py, and tests/lab/test_pages.py in
labs, run the commands, in the full suite: `make test ARGS='--full tests/pages tests/lab/test_pages.py'`.
"""
