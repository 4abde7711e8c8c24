"""Pictures: what the lake's rows say, drawn on their videos; clips, sheets of stills, blur.

Above the engine, which decodes, and the lake, which has the rows; below the command line. Charts
and pages are not here.
"""
