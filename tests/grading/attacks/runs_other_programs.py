"""Magics that run shells, scripts and files, load extensions and keep profiles. Against what IPython can do."""

ANSWERS = {
    "q1": """@RIGHT@
!cat @VAULT@/solutions.txt @COURSE@/notes.txt; touch @VAULT@/shell
get_ipython().system("cat @VAULT@/*")
%env
%sx cat @VAULT@/solutions.txt
get_ipython().run_line_magic("load_ext", "autoreload")
get_ipython().run_cell_magic("bash", "", "cat @VAULT@/*; curl -m 1 http://127.0.0.1:@PORT@")
get_ipython().run_cell_magic("writefile", "@VAULT@/written", "x")
"""
}
