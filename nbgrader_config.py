"""What nbgrader is told about this course: read by its commands, by formgrader, and by `python -m grading`."""

from pathlib import Path

c = get_config()

root = Path(__file__).resolve().parent
c.CourseDirectory.root = str(root)
c.CourseDirectory.course_id = "ebm"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "contract.json"]  # not released
# PostgreSQL instead: c.CourseDirectory.db_url = "postgresql+psycopg://user@host/database", the password in ~/.pgpass

# nbgrader's own steps, then one more that makes a release the same byte for byte wherever and whenever it is made.
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors.IncludeHeaderFooter",
    "nbgrader.preprocessors.InstantiateTests",
    "nbgrader.preprocessors.LockCells",
    "nbgrader.preprocessors.ClearSolutions",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.CheckCellMetadata",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.SaveCells",
    "nbgrader.preprocessors.ClearHiddenTests",
    "nbgrader.preprocessors.ClearMarkScheme",
    "nbgrader.preprocessors.ComputeChecksums",
    "nbgrader.preprocessors.CheckCellMetadata",
    "grading.student_version.Normalize",
]
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}

# Seconds per cell. nbgrader's 30 count the import of torch on a busy machine against the student.
c.Execute.timeout = 60
# A cell that a student deleted comes back with its tests instead of losing its points without a word.
c.OverwriteCells.add_missing_cells = True
# nbgrader gives 0 to a test cell that writes to stderr. A warning is not a wrong answer: it is dropped before scoring.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s)."
# What a student wrote is shown to an instructor, in formgrader, without its HTML and scripts.
c.HTMLExporter.preprocessors = ["grading.formgrader.Harmless"]

# Kernels talk to the grader through local sockets: encrypted where the kernel can.
c.KernelManager.transport_encryption = "auto"

# The "Assignments" tab of JupyterLab hands out and collects through this folder, on one shared machine.
c.Exchange.root = str(root / "exchange")
c.Exchange.assignment_dir = str(root / "work")
